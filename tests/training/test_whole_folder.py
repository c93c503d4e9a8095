"""A run folder is the whole student, and is about the data that it was trained on."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from distill import cli
from distill.config import resolve
from distill.convert import folders
from distill.engines import native
from distill.errors import UserError
from distill.inference.t5x_run import MODEL_DIR

TEXTS = ["the red cat sat", "a dog ran far", "unseen words here"]
NOT_JSONL = ("NUM_ROWS", "NUM_TEST", "NUM_LABELS")
VOCABULARIES = {
    "words": ["VOCABULARY=words", "VOCAB_SIZE=64"],
    "bytes": ["VOCABULARY=bytes", "VOCAB_SIZE=264"],
    "sentencepiece": ["VOCABULARY=sentencepiece", "VOCAB_SIZE=32128"],
}


def _write_rows(folder: pathlib.Path, test_rows: int = 10) -> None:
    things, ends = ("cat", "dog", "cow", "hen"), ("sat", "ran far", "ate", "slept")
    for name, count in (("train", 40), ("test", test_rows)):
        rows = [
            {
                "id": f"{name}{i}",
                "input": f"the red {things[i % 4]} {ends[i // 4 % 4]}",
                "label": things[i % 4],
                "rationale": f"because it is a {things[i % 4]}",
            }
            for i in range(count)
        ]
        lines = (json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines))


def _resolve(micro, vocabulary, data: str, *more: str) -> resolve.Resolved:
    short = [text for text in micro if text.split("=")[0] not in NOT_JSONL]
    files = [f"TRAIN_FILE={data}train.jsonl", f"TEST_FILE={data}test.jsonl"]
    settings = ("INPUT_LENGTH=48", "TARGET_LENGTH=48", "EVAL_PERIOD=0", "LABELS=()")
    overrides = (*short, *files, *VOCABULARIES[vocabulary], *settings, *more)
    return resolve.resolve(["jsonl_step_by_step"], overrides)


def _train(resolved: resolve.Resolved, folder: pathlib.Path) -> dict[str, object]:
    return native.train(resolved, folder, lambda line: None)


def _answers(run_dir: pathlib.Path, capsys) -> list[dict[str, object]]:
    capsys.readouterr()
    assert cli.main(["predict", f"--run_dir={run_dir}", "--rationale", "--json", *TEXTS]) == 0
    return json.loads(capsys.readouterr().out)["predictions"]


def _refusal(capsys, *argv: str) -> str:
    capsys.readouterr()
    assert cli.main(list(argv)) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(micro, tmp_path_factory) -> pathlib.Path:
    """<folder>/data and <folder>/run, a run on words; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "data").mkdir()
    _write_rows(folder / "data")
    _train(_resolve(micro, "words", f"{folder}/data/"), folder / "run")
    return folder


@pytest.fixture
def copy(trained, tmp_path) -> pathlib.Path:
    """A copy of `trained` whose run is of the original's data; to be changed."""
    shutil.copytree(trained / "run", tmp_path / "run")
    shutil.copytree(trained / "data", tmp_path / "data")
    return tmp_path


@pytest.mark.parametrize(
    "vocabulary",
    [
        "words",
        *(pytest.param(name, marks=pytest.mark.slow) for name in VOCABULARIES if name != "words"),
    ],
)
def test_a_copied_folder_answers_without_data_vocabulary_and_cache(
    vocabulary, micro, tmp_path, capsys, monkeypatch, request
):
    data, more = tmp_path / "data", []
    data.mkdir()
    _write_rows(data)
    if vocabulary == "sentencepiece":
        shared = request.getfixturevalue("shared_dir")
        (model,) = (shared / "data" / "vocab").glob("*.model")
        shutil.copy(model, data / "t5.model")
        more = [f"VOCABULARY_PATH={data}/t5.model"]
    monkeypatch.setenv("DISTILL_CACHE_DIR", str(tmp_path / "cache"))
    _train(_resolve(micro, vocabulary, f"{data}/", *more), tmp_path / "run")
    before = _answers(tmp_path / "run", capsys)
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "copied")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert _answers(pathlib.Path("copied"), capsys) == before
    assert folders.native_to_t5x("copied", "exported").name == "checkpoint_12"
    message = _refusal(capsys, "evaluate", "--run_dir=copied")
    assert "does not exist" in message and str(data) in message


@pytest.mark.slow
def test_a_copied_t5x_run_answers_alike(trained, tmp_path, capsys):
    """A folder as the t5x engine leaves it: its checkpoint in place of the native one."""
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    folders.native_to_t5x(run, run / MODEL_DIR)
    shutil.rmtree(run / "checkpoints")
    assert _answers(run, capsys) == _answers(trained / "run", capsys)


def test_evaluate_scores_a_file(trained, tmp_path, capsys):
    results = json.loads((trained / "run" / "results.json").read_text())
    rows = (trained / "data" / "test.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows + json.dumps({"input": "the red cat"}) + "\n")
    argv = ["evaluate", f"--run_dir={trained}/run", f"--input={tmp_path}/rows.jsonl"]
    assert cli.main([*argv, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == results["accuracy"] and scores["n"] == 10
    assert scores["without_label"] == 1
    (tmp_path / "rows.jsonl").write_text(json.dumps({"input": "the red cat"}) + "\n")
    assert "no row has a `label`" in _refusal(capsys, *argv)


def test_evaluate_reads_the_files_of_the_run_wherever_it_is_started(
    micro, tmp_path, capsys, monkeypatch
):
    """Relative paths are those of the folder in which training was started."""
    for name, count in (("first", 10), ("second", 4)):
        (tmp_path / name).mkdir()
        _write_rows(tmp_path / name, count)
    monkeypatch.chdir(tmp_path / "first")
    _train(_resolve(micro, "words", ""), tmp_path / "run")
    monkeypatch.chdir(tmp_path / "second")
    capsys.readouterr()
    assert cli.main(["evaluate", f"--run_dir={tmp_path}/run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 10


def _change_a_row(path: pathlib.Path) -> None:
    path.write_text(path.read_text().replace("the red cat sat", "the old cat sat", 1))


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_changed_data_are_refused(name, micro, copy, capsys):
    (copy / "run" / "results.json").unlink()
    _train(_resolve(micro, "words", f"{copy}/data/"), copy / "run")  # moved, the same: resumes
    (copy / "run" / "results.json").unlink()
    before = (copy / "run" / "run.json").read_bytes()
    _change_a_row(copy / "data" / name)
    with pytest.raises(
        UserError, match=rf"trained on other data: .*/data/{name} is not the file it was"
    ):
        _train(_resolve(micro, "words", f"{copy}/data/"), copy / "run")
    assert (copy / "run" / "run.json").read_bytes() == before
    assert not (copy / "run" / "results.json").exists()


def test_evaluate_refuses_data_that_have_changed(micro, tmp_path, capsys):
    _write_rows(tmp_path)
    _train(_resolve(micro, "words", f"{tmp_path}/"), tmp_path / "run")
    _change_a_row(tmp_path / "test.jsonl")
    message = _refusal(capsys, "evaluate", f"--run_dir={tmp_path}/run")
    assert f"{tmp_path}/test.jsonl has changed (sha256 " in message


def test_rows_that_are_read_otherwise_are_refused(copy):
    """The files are the same, but other rows come of them, as after a change of the reader."""
    from distill.training import provenance

    run = json.loads((copy / "run" / "run.json").read_text())
    provenance.check_rows(copy / "run", run)
    run["row_digests"]["train"] = "0" * 64
    with pytest.raises(
        UserError, match="the train split had 36 rows, and now has 36 different ones"
    ):
        provenance.check_rows(copy / "run", run)


def test_another_vocabulary_or_label_set_is_refused(micro, copy):
    (copy / "run" / "results.json").unlink()
    labels = "LABELS=('cat', 'dog', 'cow', 'hen')"
    other = _resolve(micro, "words", f"{copy}/data/", labels)
    with pytest.raises(UserError, match="DATASET_OPTIONS: "):
        _train(other, copy / "run")
    path = copy / "run" / "student.json"
    path.write_text(path.read_text().replace('"labels": []', '"labels": ["cat"]'))
    with pytest.raises(UserError, match=r"label set \('cat',\), but it is now \(\)"):
        _train(_resolve(micro, "words", f"{copy}/data/"), copy / "run")


def test_bindings_past_the_macros_are_compared_by_digest(micro, copy, tmp_path):
    """T5X alone reads them; a run of it resumes with the same --gin_file only."""
    from distill.training import provenance

    mine = tmp_path / "mine.gin"
    mine.write_text("utils.SaveCheckpointConfig.keep = 3\n")
    short = [text for text in micro if text.split("=")[0] not in NOT_JSONL]
    names = ["jsonl_step_by_step", str(mine)]
    options = (*short, f"TRAIN_FILE={copy}/data/train.jsonl", f"TEST_FILE={copy}/data/test.jsonl")
    resolved = resolve.resolve(names, options, "t5x")
    path = copy / "run" / "run.json"
    run = json.loads(path.read_text())
    with pytest.raises(UserError, match=r"gets those of .*mine\.gin: give the same --gin_file"):
        provenance.check_bindings(copy / "run", resolved)
    run |= {"bindings": dict(resolved.bindings), "binding_files": dict(resolved.binding_files)}
    path.write_text(json.dumps(run))
    provenance.check_bindings(copy / "run", resolved)
    mine.write_text("utils.SaveCheckpointConfig.keep = 4\n")
    with pytest.raises(UserError, match=r"started with the bindings of .*mine\.gin"):
        provenance.check_bindings(copy / "run", resolve.resolve(names, options, "t5x"))
    mine.write_text("utils.SaveCheckpointConfig.keep = 3\n")
    other = resolve.resolve(names, (*options, "utils.SaveCheckpointConfig.keep=5"), "t5x")
    with pytest.raises(UserError, match=r"other bindings of utils\.SaveCheckpointConfig\.keep"):
        provenance.check_bindings(copy / "run", other)


def test_predictions_have_what_the_teacher_says_of_their_rows(copy):
    tested = [json.loads(line) for line in (copy / "run" / "predictions_test.jsonl").open()]
    assert len(tested) == 10
    for row in tested:
        assert row["teacher_rationale"] == f"because it is a {row['gold']}"
        assert "teacher_label" not in row and "probability" not in row  # an open set of labels


def test_a_finished_run_does_not_speak_for_changed_data(micro, copy):
    run, resolved = copy / "run", _resolve(micro, "words", f"{copy}/data/")
    assert _train(resolved, run)["n_test"] == 10
    _change_a_row(copy / "data" / "train.jsonl")
    with pytest.raises(
        UserError, match=r"train\.jsonl is not the file it was trained on, .*train\.jsonl"
    ):
        _train(resolved, run)
    (copy / "data" / "train.jsonl").unlink()
    lines: list[str] = []
    assert native.train(resolved, run, lines.append)["n_test"] == 10
    assert any("was not checked: " in line and "does not exist" in line for line in lines)
