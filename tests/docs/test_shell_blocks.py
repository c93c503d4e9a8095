"""The shell blocks of README.md and docs/**/*.md work.

Blocks have fences: ```bash and, after it, tags. The blocks of a page run in order in one temporary
folder, which holds copies of `gin/` and `docs/examples/`, the run folder RUN and the files of
FILES.

- Untagged blocks are run. MICRO is appended to the arguments of `distill train` and
  `distill loss-weights` (`--gin.TRAIN_STEPS=4` and so on), so that training takes seconds.
- Blocks tagged slow, network, tpu or t5x are interpreted by bash, but no program is run. The
  arguments of each `distill` command are parsed, and the gin files and macros of a command that
  has a configuration are resolved as for a run, without reading data. `block_shell.check_command`
  says what is checked of other programs.

REPLACED lists what stands for something else in the text of blocks, PLACEHOLDERS the names in
capitals. A page whose shell commands have no fence fails.
"""

from __future__ import annotations

import json
import re
import shutil

import jax
import pytest
from block_shell import check_command, run_bash, run_command
from shell_blocks import LANGUAGES, PAGES, ROOT, TAGS, blocks_of

from distill.config import fields

MICRO = (
    "EMBED_DIM=16",
    "MLP_DIM=16",
    "NUM_HEADS=2",
    "HEAD_DIM=8",
    "NUM_ENCODER_LAYERS=1",
    "NUM_DECODER_LAYERS=1",
    "NUM_ROWS=60",
    "NUM_TEST=8",
    "NUM_LABELS=40",
    "BATCH_SIZE=8",
    "TRAIN_STEPS=4",
    "WARMUP_STEPS=1",
    "LOG_PERIOD=2",
    "SAVE_PERIOD=4",
    "EVAL_PERIOD=0",
    "EVAL_BATCH_SIZE=8",
)
REPLACED = {
    "<this repository>": "repository",
    "distill train ...": "distill train --gin_file=tickets_step_by_step",
    "distill annotate ...": "distill annotate --input=rows.jsonl --prompt=tickets --model=NAME",
    "--gin_file=... --raw_dir": "--gin_file=esnli_mini_step_by_step --raw_dir",
    "--gin_file=...": "--gin_file=tickets_step_by_step",
}
PLACEHOLDERS = {"DATA", "MODEL", "RUN", "DIR", "FILE", "FOLDER", "NAME", "BUCKET"}
_ROW = {"input": "my fan seems burnt . i bought it in march .", "label": "repair"}
FILES = {
    "rows.jsonl": json.dumps(_ROW) + "\n",
    "test.jsonl": json.dumps(_ROW) + "\n",
    "texts.txt": _ROW["input"] + "\n",
}
# Pages whose untagged blocks are run by `make test-long`; those of the others by `make test`.
SLOW = ("docs/predict.md", "docs/tutorial.md")
_CAPITALS = re.compile(r"(?<![\w$.%{\"'-])[A-Z][A-Z0-9_]+\b(?![\w=.(])")


def _script(block) -> str:
    text = block.text
    for written, meant in REPLACED.items():
        text = text.replace(written, meant)
    return text


def _shell(page):
    return [block for block in blocks_of(page) if block.language == "bash"]


def _is_run(block) -> bool:
    return not block.tags


def _marks(page):
    return [pytest.mark.slow] if page in SLOW else []


WITH_RUN = [page for page in PAGES if any(map(_is_run, _shell(page)))]
WITH_CHECK = [page for page in PAGES if not all(map(_is_run, _shell(page)))]


@pytest.fixture
def folder(tmp_path):
    """A folder like the root of a checkout, with the files that pages suppose to be there."""
    shutil.copytree(ROOT / "gin", tmp_path / "gin")
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def quick_compiling(run_dir):
    """Programs of XLA that are made faster and run slower, as they run for a few steps only.

    The run that all tests share is made before: tests compare others with it bit by bit.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()  # so that other tests run none of these programs


@pytest.mark.parametrize("page", [pytest.param(page, marks=_marks(page)) for page in WITH_RUN])
def test_untagged_blocks_run(page, folder, block_counts, quick_compiling, request):
    blocks = list(filter(_is_run, _shell(page)))
    if any("RUN" in block.text for block in blocks):
        (folder / "RUN").symlink_to(request.getfixturevalue("run_dir"))
    if page == "docs/predict.md":  # it uses the run of the tutorial
        (folder / "runs").mkdir()
        (folder / "runs" / "shop").symlink_to(request.getfixturevalue("run_dir"))
    for block in blocks:
        run_bash(_script(block), folder, lambda words: run_command(words, MICRO), dry=False)
        block_counts[page, "run"] += 1


@pytest.mark.parametrize("page", WITH_CHECK)
def test_tagged_blocks_parse_and_resolve(page, tmp_path, block_counts):
    for block in _shell(page):
        if not _is_run(block):
            try:
                run_bash(_script(block), tmp_path, check_command, dry=True)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: {error}") from None
            block_counts[page, "parsed"] += 1
    # `>` makes files, into which nothing is printed.
    assert not [each for each in tmp_path.iterdir() if each.is_dir() or each.stat().st_size]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_fences_that_say_what_they_are(page):
    blocks = blocks_of(page)
    for block in blocks:
        assert block.language in LANGUAGES, f"{block.where}: language {block.language!r}"
        if block.language == "bash":
            assert block.tags <= TAGS, f"{block.where}: tags {set(block.tags - TAGS)}"
            code = re.sub(r"(?<!\S)#.*", "", block.text)
            unknown = set(_CAPITALS.findall(code)) - PLACEHOLDERS - fields.defaults().keys()
            assert not unknown, f"{block.where}: {unknown} is neither a placeholder nor a macro"
    indented = [block.where for block in blocks if block.indented]
    assert not indented, f"{indented}: put ```bash and ``` around shell commands"


PAGE = """\
Text.

    distill train --gin_file=a

```bash slow
make test
```

    a = 1
"""


def test_blocks_are_found():
    first, second = blocks_of("page.md", PAGE)
    assert (first.line, first.text.strip(), first.indented) == (
        3,
        "distill train --gin_file=a",
        True,
    )
    assert (second.line, second.text, second.tags) == (6, "make test", {"slow"})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "distill train --gin_file=tickets_step_by_step --gin.TRAIN_STEP=3",
            "closest: TRAIN_STEPS",
        ),
        ("distill train --gin_file=tickets_step_by_step --gin.TRAIN_STEPS=0", "expected 1 or more"),
        ("distill train --gin_file=tickets_step_by_stop", "not found"),
        ("distill predict --rundir=RUN x", "does not take: .*--rundir"),
        (
            "for i in 0 x; do distill train --process_id=$i; done",
            "--process_id 'x'",
        ),
        ("make tests", "no target"),
        ("python benchmarks/nothing.py", "no file benchmarks/nothing.py"),
        ("python -m distill.nothing", "no module distill.nothing"),
        ("python -m t5x.train --gin_file=gin/engines/t5x.gin --gin.PAK=1", "closest: PACK"),
        ("distill predict --run_dir=RUN 'x", "unexpected EOF"),
        ("distill predict --rundir=RUN x & wait", "failed: .*--rundir"),
        ("srun --nodes=2 distill train --gin_file=nowhere", "not found"),
        ("srun bash -c 'distill predict --rundir=$RUN x'", "does not take: .*--rundir"),
        (
            "gcloud compute ssh HOST --command='sudo /x/train.sh start distill predict --rundir=x'",
            "does not take: .*--rundir",
        ),
    ],
)
def test_a_wrong_block_is_caught(script, message, tmp_path):
    with pytest.raises(AssertionError, match=message):
        run_bash(script, tmp_path, check_command, dry=True)


def test_a_command_that_fails_fails_its_block(tmp_path):
    script = "distill predict --run_dir=nowhere x\necho done"
    with pytest.raises(AssertionError, match="nowhere"):
        run_bash(script, tmp_path, lambda words: run_command(words, MICRO), dry=False)
