"""The training methods: what METHOD names, and all that sets one apart from the others.

A method is one entry of `METHODS` and one file in gin/methods. docs/methods.md says what else a new
one may need.
"""

from __future__ import annotations

import dataclasses

_BOTH = ("label", "rationale")


@dataclasses.dataclass(frozen=True)
class Method:
    """What a method trains on.

    Attributes:
      about: the sentence of the model card that says how the student was trained.
      tasks: the parts of the loss, label first.
      is_joined: whether label and rationale of a row are one target, the label first, each part
        with an EOS of its own; otherwise each task has sequences of its own.
      rationale_first: whether the target of the label task is the rationale, then the label.
    """

    about: str
    tasks: tuple[str, ...] = ("label",)
    is_joined: bool = False
    rationale_first: bool = False

    @property
    def reads_rationales(self) -> bool:
        """Whether rationales are trained on."""
        return self.rationale_first or "rationale" in self.tasks


METHODS = {
    "finetune": Method("It was fine-tuned on labels."),
    "distill_labels": Method("It was trained on the labels of a language model."),
    "step_by_step": Method(
        "It was trained on labels, and on a language model's rationales as a second task.", _BOTH
    ),
    "single_task": Method(
        "It was trained to write a language model's rationale and then the label.",
        rationale_first=True,
    ),
    "answer_first": Method(
        "It was trained to write the label, and after it a language model's rationale.",
        _BOTH,
        is_joined=True,
    ),
}
