"""Values that no setting has: exit code 2 and one message that names the setting and its bound."""

import http.server
import io
import json
import re
import threading
import zipfile

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill import cli
from distill.data import cache
from distill.data.download import unzip
from distill.errors import UserError
from distill.teacher.storage.store import Store

TICKETS = "--gin_file=tickets_step_by_step"
JSONL = ["--gin_file=jsonl_step_by_step", "--gin.LABELS=()"]
GOOD = ["--gin.TRAIN_FILE={dir}/good.jsonl"]
DEEP, DIGITS = "[" * 100_000, "9" * 6000
ANNOTATE = ["annotate", "--model=m", "--prompt=tickets", "--output={dir}/o.jsonl"]

# `!` stands for the macro's name.
MACROS = {
    "SEED=4294967296": "got ! = 4294967296, expected an integer of at most 2,147,483,647",
    "SEED=0x" + "f" * 6000: "got an integer of 24,000 bits for !",
    f"SEED={DIGITS}": "got --gin.! with an integer of 6,000 digits, expected at most 4,300",
    f"SEED={DEEP}": r"--gin.!: got \[+\.\.\. .*expected a list.*inner quotes: --gin.!=\"'...'\"",
    "LABEL_PREFIX=[label] ": r"--gin.!: got \[label\], .*a list.*: --gin.!=\"'\[label\] '\"$",
    "LABEL_PREFIX=label: ": r"got --gin.!='label: ', .*a space.* use --gin.!=\"'label: '\"$",
    "SEED=-1": "got ! = -1, expected an integer >= 0",
    "LEARNING_RATE=1e999": "got ! = inf, expected a finite number",
    "TRAIN_STEPS=0": "got ! = 0, expected 1 or more",
    "TRAIN_STEPS=50": "got ! = 50 with WARMUP_STEPS = 100, expected TRAIN_STEPS > WARMUP_STEPS",
    "OPTIMIZER=3": "got ! = 3, expected a string",
    "LABEL_PREFIX=5": "got ! = 5, expected a string",
    "LABEL_PREFIX='[rationale]'": "got ! = .* and RATIONALE_PREFIX = .*, expected two different",
    "DATASET_OPTIONS=5": "got ! = 5, expected a dict",
    "INPUT_LENGTH=1e11": "got ! = 100000000000.0, expected an integer",
    "INPUT_LENGTH=100000": "got ! = 100000, expected at most 65,536",
    "BATCH_SIZE=1000000000": "got ! = 1000000000, expected at most 65,536",
    "BATCH_SIZE=True": "got ! = True, expected an integer",
    "EMBED_DIM=1000000000": "got ! = 1000000000, expected at most 1,048,576",
    "NUM_ROWS=1000000000": r"got ! = 1000000000, expected 1 to \d+ tickets",
    "learning_rate=1": "closest: LEARNING_RATE",
}
COMMANDS = {
    "no text between rationale and label": (
        ["train", TICKETS, "--gin.METHOD=single_task", "--gin.LABEL_PREFIX=' '"],
        "got LABEL_PREFIX = ' ' with METHOD = 'single_task', expected a text",
    ),
    "labels that are one text": (
        ["train", *JSONL[:1], *GOOD, "--gin.LABELS=('shipping')"],
        r"got LABELS = 'shipping', which is one string.*\('shipping',\) with a comma",
    ),
    "labels with a comma": (
        ["train", *JSONL[:1], *GOOD, "--gin.LABELS=a, b"],
        r"""got LABELS = 'a, b', .* --gin.LABELS="\('a', 'b'\)" for 2 labels, """,
    ),
    "labels that are no texts": (["train", *JSONL[:1], *GOOD, "--gin.LABELS=(1, 2)"], "got LABELS"),
    "a file that is no text": (["train", *JSONL, "--gin.TRAIN_FILE=5"], "got TRAIN_FILE = 5"),
    "deep JSON": (["train", *JSONL, "--gin.TRAIN_FILE={dir}/deep.jsonl"], "deep.jsonl:2: not JSON"),
    "many digits": (["train", *JSONL, "--gin.TRAIN_FILE={dir}/digits.jsonl"], "digits.jsonl:1"),
    "deep CSV": (["train", *JSONL, "--gin.TRAIN_FILE={dir}/deep.csv"], "deep.csv:2.*`choices`"),
    "CSV of many digits": (["train", *JSONL, "--gin.TRAIN_FILE={dir}/digits.csv"], "digits.csv:2"),
    "a name that is too long": (
        ["train", *JSONL, "--gin.TRAIN_FILE=" + "x" * 300],
        "xxx does not exist",
    ),
    "a gin file that is not UTF-8": (["train", "--gin_file={dir}/latin.gin"], "latin.gin:2: not U"),
    "a gin file of brackets": (["train", "--gin_file={dir}/deep.gin"], r"deep.gin:\d: not a gin"),
    "a topology": (["preflight", TICKETS, "--topology=v5e:99999999999x2"], "at most 16,384 chips"),
    "a topology of digits": (["preflight", TICKETS, f"--topology=v5e:{DIGITS}x2"], "16,384 chips"),
    "a text that is blank": (["predict", "--run_dir=x", "a", " "], "text 2 .* is blank"),
    "no text": (["predict", "--run_dir=x", ""], "text 1 on the command line is blank"),
    "temperature nan": (
        [*ANNOTATE, "--temperature=nan"],
        "--temperature nan, expected between 0 and 100",
    ),
    "temperature inf": (
        [*ANNOTATE, "--temperature=inf"],
        "--temperature inf, expected between 0 and 100",
    ),
    "top_p": ([*ANNOTATE, "--top_p=nan"], "--top_p nan, expected between 0 and 1"),
    "timeout": (
        [*ANNOTATE, "--timeout=1e300"],
        "--timeout 1e.300, expected between 0.001 and 86400",
    ),
    "concurrency": (
        [*ANNOTATE, "--concurrency=100000000"],
        "--concurrency .*, expected between 1 and 10000",
    ),
    "samples": ([*ANNOTATE, "--samples=100000000"], "--samples .*, expected between 1 and 10000"),
    "tokens": (
        [*ANNOTATE, "--tokens_per_minute=1e-300"],
        "--tokens_per_minute 1e-300, expected at",
    ),
    "requests": ([*ANNOTATE, "--requests_per_minute=inf"], "requests_per_minute inf, expected"),
    "extra": ([*ANNOTATE, f"--extra={DEEP}"], "--extra: got .* expected a JSON object"),
    "a host without an end": ([*ANNOTATE, "--base_url=http://[::1"], "--base_url 'http://.::1'"),
    "a port": ([*ANNOTATE, "--base_url=http://localhost:99999/v1"], "--base_url .*range 0-65535"),
    "a blank in a host": ([*ANNOTATE, "--base_url=http://a b/v1"], "--base_url 'http://a b/v1'"),
    "ftp": (
        ["data", "fetch", "--output={dir}/data", "--source=ftp://localhost/x"],
        "got the address 'ftp://localhost/x/.*expected http://",
    ),
    "a source's port": (
        ["data", "fetch", "--output={dir}/data", "--source=http://localhost:99999"],
        "the address .*range 0-65535",
    ),
}
CASES = {
    setting[:40]: (["train", TICKETS, f"--gin.{setting}"], text.replace("!", setting.split("=")[0]))
    for setting, text in MACROS.items()
} | COMMANDS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    row = json.dumps({"input": "x", "label": "yes"})
    (folder / "good.jsonl").write_text(f"{row}\n")
    (folder / "deep.jsonl").write_text(f"{row}\n{DEEP}\n")
    (folder / "digits.jsonl").write_text(f'{{"input": {DIGITS}}}\n')
    (folder / "deep.csv").write_text(f"input,choices\nx,{DEEP}\n")
    (folder / "digits.csv").write_text(f"input,choices\nx,{DIGITS}\n")
    (folder / "latin.gin").write_bytes(b"SEED = 3\n# caf\xe9\n")
    (folder / "deep.gin").write_text(f"SEED = {DEEP}\n")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_value_out_of_bounds_is_one_message(case, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x" * 20)
    argv, message = CASES[case]
    argv = [argument.replace("{dir}", str(files)) for argument in argv]
    if argv[0] == "train":
        argv += [f"--gin.TEST_FILE={files}/deep.jsonl"] if JSONL[0] in argv else []
        argv.append(f"--run_dir={tmp_path}/run")
    assert cli.main(argv) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("distill:")]
    assert len(lines) == 1 and re.search(message, lines[0]), lines
    assert len(lines[0]) < 1000


def test_an_empty_cache_folder_is_the_default(monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE_DIR", "")
    assert str(cache.cache_dir()).endswith("/.cache/distill")


def test_rows_of_stdin_have_ids_of_their_own():
    from distill.inference import inputs

    lines = [b'{"id": "a", "input": "x"}\n', b'{"input": "y"}\n', b'{"id": "a", "input": "z"}\n']
    with pytest.raises(UserError, match="stdin:3: duplicate id 'a', already used in line 1"):
        list(inputs.of_stdin(lines).rows)


KEYS = [f"{n:032x}" for n in range(3)]


def _store(folder, lines):
    folder.mkdir()
    (folder / "store.json").write_text('{"schema": 1}')
    (folder / "shard-00000.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def _record(key, rest='"id": "a", "completion": "x"'):
    return f'{{"key": "{key}", "ok": true, {rest}}}'


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        (_record(KEYS[1], '"id": "a", "completion": "x'), "not JSON"),
        (_record(KEYS[1], f'"id": {DEEP}'), "not JSON .*nested too deeply"),
        (_record(KEYS[1], f'"id": {DIGITS}'), "not JSON .*digits"),
        (_record(KEYS[1], '"id": "a", "completion": 3'), "'completion' is not a string"),
        (
            _record(KEYS[1], '"id": "a", "completion": "x", "usage": {"in": "3"}'),
            "the values of 'usage' are not numbers",
        ),
    ],
)
def test_a_damaged_record_in_the_middle_is_named(tmp_path, damaged, said):
    folder = _store(tmp_path / "store", [_record(KEYS[0]), damaged, _record(KEYS[2])])
    with Store(folder) as store:
        assert store.get(KEYS[0])["completion"] == store.get(KEYS[2])["completion"] == "x"
        with pytest.raises(UserError, match=f"shard-00000.jsonl:2: {said}.*remove the line"):
            store.get(KEYS[1])
        with pytest.raises(UserError, match=r"shard-00000.jsonl:2: "):
            list(store.records())


def test_a_shard_of_a_number_that_no_store_writes_is_refused(tmp_path):
    folder = _store(tmp_path / "store", [_record(KEYS[0])])
    (folder / "shard-99999999.jsonl").write_text("")
    with pytest.raises(UserError, match=r"shard-99999999.jsonl: expected .* at most 99,999"):
        Store(folder)


def test_what_was_asked_is_json(tmp_path):
    folder = _store(tmp_path / "store", [_record(KEYS[0])])
    (folder / "asked-x.json").write_text(DEEP)
    with Store(folder) as store, pytest.raises(UserError, match=r"asked-x.json: not JSON"):
        store.described()


def _zip(path, *names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    path.write_bytes(content.getvalue())
    return path


def test_a_zip_with_a_file_where_a_folder_is_unpacks_nothing(tmp_path):
    from etils import epath

    path = epath.Path(_zip(tmp_path / "x.zip", "datasets/a/b", "datasets/a"))
    with pytest.raises(UserError, match="'datasets/a' both as a file and as a folder"):
        unzip.unpack(path, epath.Path(tmp_path / "out"), "x")
    assert not (tmp_path / "out").exists()
    locked = bytearray(_zip(tmp_path / "y.zip", "datasets/a").read_bytes())
    place = locked.index(b"PK\x01\x02")
    locked[place + 8] |= 1  # the bit that says: encrypted
    (tmp_path / "y.zip").write_bytes(bytes(locked))
    with pytest.raises(UserError, match="protected by a password"):
        unzip.unpack(epath.Path(tmp_path / "y.zip"), epath.Path(tmp_path / "out"), "x")


def test_a_content_length_that_is_no_number_is_refused(tmp_path, capsys):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "many")
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = f"--source=http://127.0.0.1:{server.server_port}"
        code = cli.main(["data", "fetch", f"--output={tmp_path}/d", source])
        server.shutdown()
    assert code == 2 and "sent 'many' as its Content-Length" in capsys.readouterr().err
