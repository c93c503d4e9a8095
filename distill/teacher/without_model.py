"""What `distill annotate` does without a model: it checks a prompt, or simulates a teacher."""

from __future__ import annotations

from collections.abc import Sequence

from distill.common.own_files import check_own, writing_own
from distill.data import examples
from distill.data.examples import Example, write_jsonl
from distill.errors import UserError
from distill.teacher import lint, prompts
from distill.teacher.results import summary
from distill.teacher.results.outputs import COMMAND
from distill.tickets.flags import TicketFlags


def check_prompt(name: str, rows: Sequence[Example]) -> summary.Checked:
    """Checks a prompt, and that no exemplar is among the rows.

    Raises:
      UserError: what is wrong with it.
    """
    report = lint.lint_prompt(prompts.load_prompt(name), rows)
    if report["problems"]:
        raise UserError(f"prompt {name}: " + "; ".join(report["problems"]))
    return {"mode": "check", **report}


def simulate(output: str, tickets: TicketFlags, rows: Sequence[Example]) -> summary.Simulated:
    """Writes tickets with what the simulated teacher says, made in this process.

    Raises:
      UserError: something else is in the place of the output.
    """
    check_own(output, "--output", COMMAND)
    annotated = tickets.annotate(rows)
    with writing_own(output, COMMAND):
        write_jsonl(output, annotated)
    return {
        "mode": "simulated",
        "output": output,
        "rows": len(annotated),
        "teacher_accuracy": examples.teacher_accuracy(annotated),
    }
