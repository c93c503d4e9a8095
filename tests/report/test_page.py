"""The page of a report: hostile texts, its size, and a real browser."""

import html
import json
import re
import subprocess
import xml.etree.ElementTree as ET

import hypothesis
import pytest
from hypothesis import strategies as st
from invented import data_of, grouped, write

from benchmarks import report_browser, report_scale
from distill.common.terminal import printable
from distill.report import browser, markdown, page
from distill.report.blocks import Entry, Items, Section, Table, Text
from distill.report.build import build
from distill.results import store

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

HOSTILE = "</script><script>alert(1)</script><!-- & \" ' \u2028 \u202e \x1b[2J `|* "


def test_hostile_texts_are_texts(tmp_path):
    texts = [f"{HOSTILE}{place}" for place in range(40)]
    for method in ("finetune", HOSTILE):
        for seed in (1, 2):
            axes = {"method": method, HOSTILE: HOSTILE, "n": seed % 2}
            more = {"axes": axes, "seed": seed, "sweep": HOSTILE, "host": HOSTILE}
            extra = {"teacher_label": HOSTILE, "teacher_rationale": HOSTILE}
            right = [place % 3 > 0 for place in range(40)]
            name = f"r{seed}{len(method)}"
            report_scale.write_run(tmp_path, name, right, texts, extra=extra, **more)
    failed = {"status": "failed", "error": HOSTILE, "sweep": HOSTILE}
    store.append(tmp_path, report_scale.record(HOSTILE, **failed))
    build(tmp_path, str(tmp_path / "r.html"), str(tmp_path / "r.md"), title=HOSTILE)
    text, twin = (tmp_path / "r.html").read_text(), (tmp_path / "r.md").read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert text.count("<!--") == 1 and "\x1b" not in text and "\u2028" not in text
    assert data_of(text)["tests"][0]["input"][0].startswith("</script><script>alert(1)")
    assert re.search(r"(?<!\\)<(?!br>|!-- distill report -->)", twin) is None
    assert re.search(r"(?<!\\)`", twin) is None


@hypothesis.given(st.text(), st.text())
@hypothesis.settings(deadline=None, max_examples=60)
def test_any_text_is_escaped(text, other):
    shown = page.element("td", text, title=other)
    root = ET.fromstring(shown)
    assert "".join(root.itertext()) == printable(text, keep="\n\t").replace("\r", "\n")
    script = browser.script_json([text, {other: text}])
    assert json.loads(script) == [text, {other: text}]
    assert not {*"<>&\u2028\u2029"} & {*script}
    table = Table(text, [other], [[Entry(text, [other], True)]])
    block = markdown.render(text, [Section("a", other, [Text(text), Items([other]), table])])
    assert len([line for line in block.splitlines() if line.startswith("#")]) == 2
    assert re.search(r"(?<!\\)(\\\\)*<(?!br>|!-- distill report -->)", block) is None


def test_a_page_has_at_most_the_bytes_that_it_may_have(tmp_path):
    write(tmp_path, gain=0.3, rows=600)
    whole = build(tmp_path, str(tmp_path / "r.html"))
    limit = whole["bytes"] - 40_000
    small = build(tmp_path, str(tmp_path / "r.html"), most_bytes=limit)
    text = (tmp_path / "r.html").read_text()
    assert len(text.encode()) == small["bytes"] <= limit < whole["bytes"]
    assert small["rows"] + small["omitted_rows"] == whole["rows"] == 600
    assert 0 < small["omitted_rows"] < 600
    assert f"{small['omitted_rows']} test rows left out" in text
    # Rows on which methods disagree are kept.
    total = _disagreeing(json.loads(browser.make_predictions(grouped(tmp_path), 10**9).text))
    assert _disagreeing(data_of(text)) == min(total, small["rows"])


def test_long_texts_are_cut_and_say_how_much_is_missing(tmp_path):
    report_scale.write_run(tmp_path, "long", [True, False], ["x" * 4000, "x" * 5234])
    failed = {"status": "failed", "error": "y" * 2001}
    store.append(tmp_path, report_scale.record("broken", **failed))
    build(tmp_path, str(tmp_path / "r.html"))
    text = (tmp_path / "r.html").read_text()
    inputs = data_of(text)["tests"][0]["input"]
    assert inputs == ["x" * 4000, "x" * 4000 + " ... (1,234 more characters)"]
    assert "y" * 2000 + " ... (1 more character)" in text and "y" * 2001 not in text


def _disagreeing(data):
    """The number of rows on which two methods disagree, for any setting and seed."""
    labels = {(run["setting"], run["seed"], run["method"]): run["labels"] for run in data["runs"]}
    pairs = [(labels[*place, 0], labels[*place, 1]) for *place, method in labels if method == 0]
    return sum(any(a[row] != b[row] for a, b in pairs) for row in range(len(pairs[0][0])))


PROBE = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => {
  const rows = () => document.querySelectorAll("#rows > li").length;
  const first = rows(), count = document.getElementById("count").textContent;
  document.getElementById("more").click();
  const more = rows();
  const filter = document.getElementById("filter");
  filter.value = "all";
  filter.dispatchEvent(new Event("change"));
  const all = document.getElementById("count").textContent;
  document.title = JSON.stringify({errors, first, more, count, all});
});
</script>"""


def test_a_browser_shows_rows_on_which_methods_disagree(built, tmp_path):
    program = report_scale.find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    text = built[2]
    # The policy of the page refuses the script of the test; its own digest is checked below.
    policy = re.search(r"<meta http-equiv[^>]*>", text)[0]
    copy = tmp_path / "r.html"
    copy.write_text(text.replace(policy, "").replace("<style>", PROBE + "<style>", 1))
    flags = [*report_scale.FLAGS, f"--user-data-dir={tmp_path / 'p'}", "--enable-logging=stderr"]
    found = {}
    for name, content in (("probed", copy), ("page", tmp_path / "own.html")):
        if name == "page":
            content.write_text(text)
        done = subprocess.run(
            [program, *flags, "--virtual-time-budget=5000", "--dump-dom", content.as_uri()],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
        found[name] = done.stdout
    told = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", found["probed"])[1]))
    assert told["errors"] == [] and (told["first"], told["more"]) == (25, 50)
    disagreeing = int(told["count"].split(" of ")[0])
    assert 50 < disagreeing < 200 and told["all"] == "200 of 200 test rows"
    assert f"{disagreeing} of 200 test rows" in found["page"]  # its policy lets its script run


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = report_scale.find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed")
    with report_browser.Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


SHOWN = """(() => {
  const of = (selector) => getComputedStyle(document.querySelector(selector));
  return {more: of("#more").display, left: of("#unprinted").display,
    text: document.getElementById("unprinted").textContent,
    head: of("#results thead").breakAfter, rows: document.querySelectorAll("#rows > li").length,
    count: document.getElementById("count").textContent};
})()"""


def test_print_says_how_many_rows_it_leaves_out(built, chromium):
    chromium.send("Emulation.setEmulatedMedia", media="")
    chromium.send("Page.navigate", url=(built[0] / "r.html").as_uri())
    chromium.wait_for("Page.loadEventFired")
    assert chromium.evaluate(SHOWN)["left"] == "none"  # the button stands there
    chromium.send("Emulation.setEmulatedMedia", media="print")
    shown = chromium.evaluate(SHOWN)
    left = int(shown["count"].split(" of ")[0]) - shown["rows"]
    assert shown["rows"] == 25 < left
    assert (shown["more"], shown["left"]) == ("none", "block")
    assert shown["text"] == f"{left} more rows are not printed."
    assert shown["head"] == "avoid"
    # No row is left: nothing is said.
    chromium.evaluate("search.value = 'no such text'; search.dispatchEvent(new Event('input'))")
    chromium.evaluate("new Promise((done) => setTimeout(done, 400))")
    assert chromium.evaluate(SHOWN)["left"] == "none"
    chromium.send("Emulation.setEmulatedMedia", media="")


def test_the_browser_check_finds_each_fault_and_none_in_a_report(built, chromium, tmp_path):
    view = report_browser.View("dark", 390)
    axe = "globalThis.axe = {run: async () => ({violations: globalThis.faults || []})}"
    assert report_browser.find_faults(chromium, built[0] / "r.html", view, axe) == []
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'>"
        "<script>console.log(matchMedia('(prefers-color-scheme: dark)').matches);"
        "faults = [{id: 'contrast', impact: 'serious', nodes: [{html: '<b>'}]}];missing()</script>"
        "<img src='http://127.0.0.1:9/a.png'><details><p style='width:500px'>wide</p></details>"
    )
    found = "\n".join(report_browser.find_faults(chromium, bad, view, axe))
    assert "console: True" in found and "missing is not defined" in found
    assert "request: http://127.0.0.1:9/a.png" in found
    assert re.search(r"1\d\d pixels wider than the page", found)
    assert "axe-core: contrast (serious): 1 elements, the first is <b>" in found
