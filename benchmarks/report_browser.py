"""Opens a report in headless Chromium and looks for faults.

  python benchmarks/report_browser.py --axe=axe.min.js

The page is opened in the light and the dark theme, 1,200 and 390 pixels wide, with all details
open. Faults are messages of the console, requests, content wider than the page and, with --axe,
violations of the rules of axe-core (`npm pack axe-core` has the file). Without --page, the report
of invented runs with all sections is built. Exits with 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import fcntl
import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report_scale
from distill.results import store

THEMES, WIDTHS, HEIGHT = ("light", "dark"), (1200, 390), 844
PHONE = 600  # pixels; narrower pages are those of a phone
SECONDS = 60.0  # for an answer of the browser
LOCAL = ("file:", "data:", "about:")
OPEN_ALL = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
RUN_AXE = """axe.run().then(({violations}) => JSON.stringify(violations.map((each) => {
  const first = each.nodes[0].html.slice(0, 120);
  return `${each.id} (${each.impact}): ${each.nodes.length} elements, the first is ${first}`;
})))"""


class Chromium:
    """A headless Chromium that is driven over pipes, by the Chrome DevTools Protocol.

    Source: https://chromedevtools.github.io/devtools-protocol/
    """

    def __init__(self, program: str, profile: Path) -> None:
        """Starts it.

        Args:
          program: Chromium.
          profile: a folder for its files.
        """
        pipes = [os.pipe(), os.pipe()]
        (here, self._write), (self._read, there) = pipes
        # Chromium reads commands from descriptor 3 and answers on descriptor 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (here, there)]
        self._pid = os.posix_spawn(
            program,
            [program, *report_scale.FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
        )
        for end in (here, there, *ends):
            os.close(end)
        self._left, self._number = b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *error: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command.

        Args:
          method: of the protocol.
          parameters: of the method.

        Returns:
          Its result. Events that come before it are added to `events`.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(method)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise SystemExit(f"Chromium refuses {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event: str) -> None:
        """Waits until an event is among `events`."""
        while all(each["method"] != event for each in self.events):
            self.events.append(self._receive(event))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        parameters = {"awaitPromise": True, "returnByValue": True}
        found = self.send("Runtime.evaluate", expression=expression, **parameters)
        if "exceptionDetails" in found:
            raise SystemExit(f"the browser could not run a script: {found['exceptionDetails']}")
        return found["result"].get("value")

    def _receive(self, what: str) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            if not part:
                raise SystemExit(f"Chromium does not answer: {what}")
            self._left += part
        line, self._left = self._left.split(b"\0", 1)
        return json.loads(line)


@dataclasses.dataclass(frozen=True)
class View:
    """How a page is looked at."""

    theme: str
    width: int

    @property
    def name(self) -> str:
        """E.g. "dark, 390 px"."""
        return f"{self.theme}, {self.width:,} px"


VIEWS = [View(theme, width) for theme in THEMES for width in WIDTHS]


def find_faults(
    browser: Chromium, page: Path, view: View, axe: str | None, picture: Path | None = None
) -> list[str]:
    """Opens a page and looks for faults.

    Args:
      browser: it is left at the page.
      page: the HTML file.
      view: its theme and width.
      axe: the script of axe-core; None leaves its rules out.
      picture: PNG file that is written; None writes none.

    Returns:
      The faults, in words.
    """
    media = [{"name": "prefers-color-scheme", "value": view.theme}]
    browser.send("Emulation.setEmulatedMedia", features=media)
    phone = view.width < PHONE
    size = {"width": view.width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": phone}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    browser.events.clear()
    browser.send("Page.navigate", url=page.resolve().as_uri())
    browser.wait_for("Page.loadEventFired")
    browser.evaluate(OPEN_ALL)
    faults = []
    if (wider := browser.evaluate(WIDER)) > 0:
        faults.append(f"{wider} pixels wider than the page")
    if picture is not None:
        shot = browser.send("Page.captureScreenshot", captureBeyondViewport=True)
        picture.write_bytes(base64.b64decode(shot["data"]))
    if axe is not None:
        browser.evaluate(f"{axe}\n;0")
        faults += [f"axe-core: {text}" for text in json.loads(browser.evaluate(RUN_AXE))]
    return [*_told(browser), *faults]


def _told(browser: Chromium) -> list[str]:
    """Messages of the console, and requests for more than local files."""
    faults = []
    for event in browser.events:
        told = event.get("params", {})
        if event["method"] == "Runtime.consoleAPICalled":
            words = (str(each.get("value", each.get("description"))) for each in told["args"])
            faults.append(f"console: {' '.join(words)}")
        elif event["method"] == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            text = details.get("exception", {}).get("description", details["text"])
            faults.append(f"console: {text}")
        elif event["method"] == "Log.entryAdded":
            faults.append(f"console: {told['entry']['text']}")
        elif event["method"] == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith(LOCAL):
                faults.append(f"request: {url}")
    return faults


def write_results(folder: Path) -> None:
    """Writes an invented results folder whose report has all sections.

    Args:
      folder: to write.
    """
    rng = np.random.default_rng(0)
    rows, sizes = 120, {"220M": 247_577_856, "770M": 783_150_080}
    hard = rng.normal(size=rows)
    gains = {"finetune": 0.0, "single_task": -0.1, "step_by_step": 0.6, "answer_first": 0.5}
    labels = [*report_scale.LABELS] * (rows // 4)
    teacher = [label if rng.uniform() < 0.8 else "replace" for label in labels]
    for fraction in (0.25, 0.5, 1.0):
        for size, parameters in sizes.items():
            for method, gain in gains.items():
                for seed in (1, 2):
                    scores = hard + rng.normal(0, 0.5, rows) + gain + fraction
                    name = f"{method}-{size}-{fraction}-{seed}"
                    report_scale.write_run(
                        folder,
                        name,
                        scores > 0,
                        probabilities=1 / (1 + np.exp(-np.abs(scores))),
                        extra={"teacher_rationale": "a damaged appliance , bought recently"},
                        teacher=teacher,
                        axes={"size": size, "fraction": fraction, "method": method},
                        overrides=(f"LABEL_FRACTION={fraction!r}",),
                        seed=seed,
                        method=method,
                        dataset="svamp",
                        parameters=parameters,
                        train_flops=1e11 * parameters,
                        teacher_accuracy=0.8,
                    )
    failed = {"axes": {"size": "220M", "fraction": 0.25, "method": "finetune"}, "seed": 3}
    told = "the loss is NaN at step 12"
    store.append(folder, report_scale.record("failed", status="failed", error=told, **failed))


def main() -> None:
    """Prints the faults of each view."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a report; default: one of invented runs")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--pictures", type=Path, help="an existing folder for a picture of each")
    options = parser.parse_args()
    axe = options.axe.read_text("utf-8") if options.axe else None
    program = report_scale.find_chromium()
    if program is None:
        raise SystemExit("Chromium is not installed")
    number = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        page = options.page
        if page is None:
            from distill.report.build import build

            write_results(Path(scratch) / "results")
            page = Path(scratch) / "report.html"
            build(Path(scratch) / "results", str(page))
        with Chromium(program, Path(scratch) / "profile") as browser:
            for view in VIEWS:
                picture = None
                if options.pictures:
                    picture = options.pictures / f"{view.theme}_{view.width}.png"
                faults = find_faults(browser, page, view, axe, picture)
                number += len(faults)
                print(f"{view.name}: {len(faults)} faults", *faults, sep="\n  ", flush=True)
    if axe is None:
        print("the rules of axe-core were left out: --axe=FILE gives its script")
    sys.exit(1 if number else 0)


if __name__ == "__main__":
    main()
