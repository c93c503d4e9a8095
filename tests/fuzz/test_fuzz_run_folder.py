"""Any bytes in the files of a run folder are read, or refused with a UserError."""

import json
import shutil

import hypothesis
import pytest
from hypothesis import strategies as st

from distill.common.digests import sha256_text
from distill.common.text_files import read_json
from distill.engines import results
from distill.errors import UserError
from distill.training import assets, provenance, run_folder

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.binary(max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=5,
)
json_values = values.map(lambda value: json.dumps(value, default=repr).encode())
deep = st.sampled_from(
    [b"[" * 100_000, b"9" * 6000, b'{"a":' * 50_000, b"", b"\xff", b"[1]", b"null"]
)


def _changed(content: bytes):
    """A file with some bytes replaced, cut off, or a field of its JSON object changed."""

    def replaced(change):
        start, length, new = change
        start %= len(content) + 1
        return content[:start] + new + content[start + length :]

    cut = st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=8)).map(replaced)
    options = [cut, deep, json_values, st.binary(max_size=20)]
    if content.startswith(b"{") and content.count(b"\n{") == 0:
        known = json.loads(content)
        options.append(
            st.tuples(st.sampled_from(sorted(known)), values).map(
                lambda pair: json.dumps({**known, pair[0]: pair[1]}, default=repr).encode()
            )
        )
    return st.one_of(options)


def _config_lines(content: bytes):
    lines = content.decode().splitlines()
    literal = st.one_of(
        values.map(repr), st.text(max_size=8), st.sampled_from(["(" * 3000, "9" * 6000])
    )
    return st.tuples(st.integers(1, len(lines) - 1), literal).map(
        lambda change: "\n".join(
            f"{line.partition(' = ')[0]} = {change[1]}" if n == change[0] else line
            for n, line in enumerate(lines)
        ).encode("utf-8", "surrogatepass")
    )


def _read(name, folder):
    """What the command line reads of a file of a run folder."""
    if name == "config.gin":
        run_folder.read_config(folder)
    elif name == "student.json":
        assets.read(folder)
    elif name == "run.json":
        provenance.check_files(folder, {"a": sha256_text("a")})
        provenance.check_rows(folder, {"rows": {}, "row_digests": {}})
    elif name == "results.json":
        path = folder / name
        results.say(results.check_results(read_json(path), str(path)), lambda line: None)
    else:
        log = run_folder.MetricsLog(folder, 6, lambda line: None, writes=False)
        log.close()


FILES = ("config.gin", "student.json", "run.json", "results.json", "metrics.jsonl")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_run_folder_is_read_or_refused(count, run_dir, tmp_path, name):
    sound = (run_dir / name).read_bytes()
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copytree(run_dir / "vocabulary", folder / "vocabulary")
    options = [_changed(sound)]
    if name == "config.gin":
        options.append(_config_lines(sound))

    @hypothesis.given(st.one_of(options))
    @hypothesis.example(sound)
    @hypothesis.example(b"[1]\n")
    @hypothesis.example(b'{"step": "x"}\n')
    @hypothesis.example(b"\xff\n")
    @hypothesis.example(b"{}")
    @hypothesis.example(b"[" * 100_000)
    def read(content):
        count()
        (folder / name).write_bytes(content)
        try:
            _read(name, folder)
        except UserError as error:
            assert str(error) and not (content == sound and name != "run.json")

    read()
