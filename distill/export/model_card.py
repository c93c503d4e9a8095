"""README.md of an export: what the student reads and answers, its data and score, how to call it.

Everything in it comes from the run folder. Paths of the machine that trained are left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

import distill
from distill.common.digests import sha256
from distill.common.text_files import read_json
from distill.data.mapping.input_forms import ANSWER_CHOICES
from distill.data.released import licenses
from distill.errors import UserError
from distill.inference.load import LoadedRun
from distill.training import provenance, run_folder

_MOST_LABELS = 50  # that are listed


def render_card(
    run: LoadedRun, use: str, files: Mapping[str, str], metadata: Sequence[str] = ()
) -> str:
    """The text of a model card.

    Args:
      run: the student.
      use: Markdown that says how to call it.
      files: sha256 of each file of the export, by name.
      metadata: lines of the YAML block at the start, without the license.

    Raises:
      UserError: results.json or run.json of the run folder is damaged.
    """
    described = provenance.read_run(run.folder)
    spec = run.config.data
    own = licenses.GENERATED.lower() if spec.dataset == "tickets" else "other"
    front = "\n".join(["---", *metadata, f"license: {own}", "---", ""]) if metadata else ""
    sections = (
        f"# {spec.method} student on {_text(spec.dataset)}",
        f"A T5 encoder-decoder that reads one text and writes a label. {spec.about_method.about} "
        "Trained with distill, an implementation of "
        "[Distilling step-by-step](https://arxiv.org/abs/2305.02301).",
        f"## Use\n\n{use.strip()}",
        f"## Input\n\n{_input(run)}",
        f"## Output\n\n{_output(run)}",
        f"## Accuracy\n\n{_accuracy(run)}",
        f"## Training\n\n{_training(run, described)}",
        f"## Data and license\n\n{_data(run, described)}",
        f"## Intended use and limits\n\n{_limits(run)}",
        f"## Files\n\n{_table(('file', 'sha256'), list(files.items()))}",
    )
    return front + "\n\n".join(sections) + "\n"


def prefix_line(run: LoadedRun) -> str:
    """What has to come before an input, as a Python literal."""
    return repr(run.config.data.label_prefix)


def _input(run: LoadedRun) -> str:
    spec, assets = run.config.data, run.assets
    lines = [
        f"Put the prefix {_code(spec.label_prefix)} before each input; the blank at its end is "
        "part of it. The student was trained with it and answers badly without it.",
        f"Inputs were cut at {spec.input_length:,} tokens in training, the end of the sequence "
        "included.",
    ]
    if assets.eos_mark:
        lines.append(
            f"{_code(assets.eos_mark)} within an input stands for the token that ends a sequence."
        )
    if assets.input_form == ANSWER_CHOICES:
        lines.append(
            "The choices are part of the input. They follow the question on lines of their own:\n\n"
            "```text\nQUESTION\nAnswer Choices:\n(a) FIRST\n(b) SECOND\n```"
        )
    return "\n\n".join(lines)


def _output(run: LoadedRun) -> str:
    spec, labels = run.config.data, run.assets.labels
    lines = [f"At most {spec.target_length:,} tokens, decoded greedily."]
    if spec.about_method.rationale_first:
        lines.append(
            f"The student writes its rationale first. The label follows the last "
            f"{_code(spec.label_prefix.strip())}."
        )
    if labels:
        shown = ", ".join(map(_code, labels[:_MOST_LABELS]))
        more = f" and {len(labels) - _MOST_LABELS:,} more" if len(labels) > _MOST_LABELS else ""
        lines.append(
            f"Label set: {shown}{more}. Decoding is not restricted to it: another text is a wrong "
            "answer."
        )
    elif run.assets.input_form == ANSWER_CHOICES:
        lines.append("The label is one of the choices of the input.")
    else:
        lines.append("The answers are open: there is no label set.")
    if spec.is_joined:
        lines.append(
            "Decoding stops at the end-of-sequence token after the label. The student was trained "
            "to write a rationale after that token: to get it, continue decoding from there."
        )
    elif "rationale" in spec.tasks:
        lines.append(
            f"With the prefix {_code(spec.rationale_prefix)} it writes a rationale instead. The "
            "rationale is generated independently and does not explain the label."
        )
    return "\n\n".join(lines)


def _accuracy(run: LoadedRun) -> str:
    path = run.folder / run_folder.RESULTS
    if not path.exists():
        return "Not measured: the run folder has no results, as its training has not ended."
    results = read_json(path)
    try:
        step, count = int(results["checkpoint_step"]), int(results["n_test"])
        accuracy, interval = results["accuracy"], results["interval"]
        if accuracy is None:
            return "Not measured: the run has no test rows with gold labels."
        low, high = map(float, interval)
        text = (
            f"{float(accuracy):.3f} on {count:,} test rows with gold labels, 95% Wilson "
            f"interval [{low:.3f}, {high:.3f}]. The interval covers the draw of the test rows, not "
            "the randomness of training."
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: it does not record the score of a run") from error
    if step != run.step:
        return (
            f"Not measured for this checkpoint (step {run.step}). The score in the run folder is "
            f"of step {step}: {text}"
        )
    return text


def _training(run: LoadedRun, described: Mapping[str, Any]) -> str:
    config = run.config
    rows = described.get("rows", {})
    versions = described.get("versions", {})
    made_by = versions.get("distill") if isinstance(versions, dict) else None
    splits = ("train", "validation", "test")
    told_rows = ", ".join(f"{rows[split]:,} {split}" for split in splits) if rows else "unknown"
    sources = {"gold": "gold labels", "teacher": "a language model"}
    commit = described.get("git_commit") or "unknown"
    tools = f"distill {_text(made_by or 'unknown')}, commit {_text(commit)}"
    facts = [
        ("checkpoint", f"step {run.step:,}" if run.step is not None else "unknown"),
        ("steps, batch", f"{config.train.train_steps:,} steps of {config.train.batch_size:,} rows"),
        ("rows", told_rows),
        ("labels from", sources[config.data.label_source]),
        ("seed", str(config.train.seed)),
        ("made with", f"{tools}; exported with distill {distill.__version__}"),
        ("config.gin", f"sha256 `{sha256(run.folder / run_folder.CONFIG)}`"),
    ]
    if config.data.rationale_source != "teacher":
        told = f"a control: RATIONALE_SOURCE = '{config.data.rationale_source}'"
        facts.insert(4, ("rationales", told))
    if start := config.init_from or config.continue_from:
        name = os.path.basename(start.rstrip("/"))
        initial = described.get("initial")
        digest = initial.get("digest") if isinstance(initial, dict) else None
        told = f", digest {_code(str(digest))}" if digest else ""
        facts.insert(0, ("initial parameters", f"{_code(name)}{told}; their license applies too"))
    return _table(("", ""), facts)


def _data(run: LoadedRun, described: Mapping[str, Any]) -> str:
    spec = run.config.data
    files = described.get("files", {})
    known = {"sentencepiece": "vocabulary of T5, Apache-2.0"}.get(spec.vocabulary, "")
    lines = [f"Dataset {_code(spec.dataset)}. License of its rows: {_license(spec.dataset)}"]
    if files:
        vocabulary = os.path.basename(spec.vocabulary_path)
        rows = []
        for path, digest in files.items():
            name = os.path.basename(path)
            rows.append((_code(name), _code(digest), known if name == vocabulary else ""))
        lines.append(_table(("training file", "sha256", ""), rows))
    elif described:
        lines.append("The rows were generated; no file was read.")
    else:
        lines.append("The run folder does not record the data files.")
    lines.append(
        "The license of the data, of the initial parameters and of the teacher's outputs may limit "
        "what this model may be used for. Set `license` at the top of this file accordingly."
    )
    return "\n\n".join(lines)


def _license(dataset: str) -> str:
    text = licenses.license_of(dataset)
    return text if text.endswith(".") else f"{text}."


def _limits(run: LoadedRun) -> str:
    name = _text(run.config.data.dataset)
    return (
        f"For inputs like those of {name}. The accuracy on other inputs is unknown. If labels or "
        "rationales came from a language model, the student also learned that model's errors and "
        "biases. It is not meant for decisions about people without human review."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )


def _code(text: str) -> str:
    """A text from the run folder as inline code, whatever it contains."""
    text = " ".join(repr(text)[1:-1].split("\n")) if not text.isprintable() else text
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if longest or (text.startswith(" ") and text.endswith(" ")) else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def _text(text: object) -> str:
    """A text from the run folder outside of code, with Markdown's and HTML's signs escaped."""
    shown = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", shown)


def digests_of(folder: epath.Path, names: Sequence[str]) -> dict[str, str]:
    """sha256 of files by their names in a folder."""
    return {name: f"`{sha256(folder / name)}`" for name in names}
