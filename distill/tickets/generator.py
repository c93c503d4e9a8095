"""The embedded dataset `tickets`: a support desk that sorts tickets.

    my fan seems burnt . i bought it in march .   ->   repair
    rationale: appliance with damage , bought late

A ticket names an item, a fault and a time. A returns policy maps the classes of the
three (appliance, clothing or food; damage or dislike; recent or late) to a label. The
rationale names the classes and never the label: it tells a student what the teacher
knows about the words, from which the policy is easily learned. Without it a student
has to find out about 24 words a class from labels alone. All text is written for this
project; the rationales are noiseless, which those of a language model are not.

The desk writes at the end of December: March is long ago, November is not. "in",
"last" and "ago" stand equally often with recent and with late words, and every
template takes every word, so only the word itself tells its class.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from distill.common.hashing import digest64
from distill.data.examples import Example
from distill.errors import UserError, unknown

LABELS = ("replace", "repair", "refund", "refuse")
# An earlier name of the dataset. Row ids and hashes are made with it, and they decide the
# rows, their split and the keys of stored answers: it does not change.
_HASH_NAME = "returns"


def _split(text: str) -> tuple[str, ...]:
    """The blank-separated words of a text."""
    return tuple(text.split())


ITEMS: Mapping[str, tuple[str, ...]] = {
    "appliance": _split(
        "fan toaster kettle blender oven fridge freezer heater vacuum iron mixer dryer washer "
        "grill lamp radio television printer juicer microwave dishwasher humidifier stove "
        "boiler"
    ),
    "clothing": _split(
        "shirt jacket coat dress skirt sweater hat scarf glove sock shoe boot belt blouse vest "
        "hoodie cardigan tie cap suit robe sandal jersey apron"
    ),
    "food": _split(
        "bread cheese apple banana cake butter yogurt honey chocolate coffee soup salad sausage "
        "ham pasta rice pizza cookie jam melon salmon carrot onion pie"
    ),
}
FAULTS: Mapping[str, tuple[str, ...]] = {
    "damage": _split(
        "burnt broken cracked torn dented scratched bent chipped stained leaking ruined shattered "
        "smashed crushed split pierced melted frayed punctured warped soaked ripped squashed "
        "battered"
    ),
    "dislike": _split(
        "ugly boring dull disappointing unwanted unpleasant bland plain odd weird overpriced "
        "horrible awful silly tacky childish garish hideous dreary strange unappealing pointless "
        "useless mediocre"
    ),
}
_TIME_WORDS = {
    "recent": {
        "in {}": "september october november december autumn advent",
        "last {}": "monday tuesday wednesday thursday friday saturday sunday night week weekend",
        "{} ago": "seconds moments minutes hours days mornings afternoons evenings",
    },
    "late": {
        "in {}": "march april may june spring summer",
        "last {}": "january february july august easter carnival term quarter semester year",
        "{} ago": "months seasons trimesters winters generations lifetimes decades ages",
    },
}
TIMES: Mapping[str, tuple[str, ...]] = {
    name: tuple(form.format(word) for form, text in forms.items() for word in _split(text))
    for name, forms in _TIME_WORDS.items()
}
TEMPLATES = (
    "my {item} seems {fault} . i bought it {time} .",
    "{time} i ordered this {item} , and now i find it {fault} .",
    "hello , the {item} that you sent {time} is {fault} .",
    "what can you do about a {fault} {item} ? it came {time} .",
)
RATIONALE = "{item} with {fault} , bought {time}"
PREFIXES = ("[label]", "[rationale]")

Classes = tuple[str, str, str]  # (item class, fault class, time class)

CELLS: tuple[Classes, ...] = tuple(itertools.product(ITEMS, FAULTS, TIMES))


def _policy(**labels_of_item: str) -> dict[Classes, str]:
    """Cells to labels; each text gives damage+recent, damage+late, dislike+recent, dislike+late."""
    labels = (label for item in ITEMS for label in labels_of_item[item].split())
    return dict(zip(CELLS, labels, strict=True))


POLICIES: Mapping[str, Mapping[Classes, str]] = {
    "natural": _policy(
        appliance="replace repair refund refuse",
        clothing="refund repair replace refuse",
        food="refund refuse refuse refuse",
    ),
    "hard": _policy(
        appliance="replace repair refund refuse",
        clothing="refund refuse replace repair",
        food="refuse replace repair refund",
    ),
}

# Every ticket has a number: template, item, fault, time in mixed radix, slot words in
# the order of their classes. The first 80% of a seed's shuffled numbers are its training
# tickets, the rest its test tickets.
_SHAPE = tuple(
    len(list(itertools.chain.from_iterable(words)))
    for words in ((TEMPLATES,), ITEMS.values(), FAULTS.values(), TIMES.values())
)
NUM_TICKETS = int(np.prod(_SHAPE))
_TRAIN_TICKETS = NUM_TICKETS * 4 // 5
SPLITS: Mapping[str, tuple[int, int]] = {
    "train": (0, _TRAIN_TICKETS),
    "test": (_TRAIN_TICKETS, NUM_TICKETS),
}


def policy(name: str, where: str = "macro POLICY") -> Mapping[Classes, str]:
    """The label of each of the 12 cells under the policy `name`.

    Args:
      name: of the policy.
      where: the macro or flag that set it, for the error message.

    Raises:
      UserError: no such policy.
    """
    if name not in POLICIES:
        raise unknown("policy", name, POLICIES, where)
    return POLICIES[name]


def rationale(classes: Classes) -> str:
    """What the teacher says about a ticket of these classes."""
    item, fault, time = classes
    return RATIONALE.format(item=item, fault=fault, time=time)


def generate(policy_name: str, num_rows: int, seed: int, split: str) -> list[Example]:
    """The first `num_rows` tickets of a seed, with gold labels and no teacher fields.

    Tickets are drawn uniformly and without replacement from all of them, so every cell
    of the policy is equally likely. Rows depend on (seed, split, row) only: more rows
    continue the same list, and the train and the test tickets of a seed never meet.

    Args:
      policy_name: "natural" or "hard".
      num_rows: N, at least 1.
      seed: decides which tickets, in which order.
      split: "train" or "test".

    Returns:
      N examples with ids `returns/<split>/<row>`.

    Raises:
      UserError: an unknown policy or split, or more rows than there are tickets.
    """
    labels = policy(policy_name)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS, "dataset tickets")
    first, end = SPLITS[split]
    if not 1 <= num_rows <= end - first:
        raise UserError(
            f"got {num_rows} rows for the {split} split of tickets, expected 1 to {end - first}"
        )
    numbers = _shuffled(seed)[first : first + num_rows]
    examples = []
    for row, slots in enumerate(zip(*np.unravel_index(numbers, _SHAPE), strict=True)):
        ticket, classes = _ticket(*map(int, slots))
        examples.append(
            Example(
                id=f"{_HASH_NAME}/{split}/{row}",
                input=ticket,
                label=labels[classes],
                choices=LABELS,
                split=split,
            )
        )
    return examples


def parse_ticket(ticket: str) -> Classes:
    """The classes of a ticket's item, fault and time.

    Raises:
      UserError: a text that is not a ticket of this dataset.
    """
    class_of = _class_of_word()
    slot_words = [class_of[word] for word in ticket.split() if word in class_of]
    slots = dict(slot_words)
    if len(slot_words) != 3 or len(slots) != 3:
        raise UserError(
            f"not a ticket of the tickets dataset: {ticket!r}; expected one known item, one fault "
            "and one time (the simulated teacher annotates only DATASET = 'tickets')"
        )
    return slots["item"], slots["fault"], slots["time"]


def words() -> list[str]:
    """All words that inputs, labels, rationales and task prefixes are made of, sorted."""
    texts = [RATIONALE.format(item="", fault="", time=""), *LABELS, *PREFIXES]
    texts += [template.format(item="", fault="", time="") for template in TEMPLATES]
    for slot in (ITEMS, FAULTS, TIMES):
        texts += [*slot, *itertools.chain.from_iterable(slot.values())]
    return sorted({word for text in texts for word in text.split()})


@functools.cache
def _slot_words(slot: str) -> tuple[tuple[str, str], ...]:
    """(class, word or phrase) pairs of a slot, in class order."""
    classes = {"item": ITEMS, "fault": FAULTS, "time": TIMES}[slot]
    return tuple((name, word) for name, words_ in classes.items() for word in words_)


@functools.cache
def _class_of_word() -> Mapping[str, tuple[str, str]]:
    """Word that tells a class -> (slot, class)."""
    table = {word: ("item", name) for name, word in _slot_words("item")}
    table |= {word: ("fault", name) for name, word in _slot_words("fault")}
    for name, forms in _TIME_WORDS.items():
        table |= {word: ("time", name) for text in forms.values() for word in text.split()}
    return table


def _ticket(template: int, item: int, fault: int, time: int) -> tuple[str, Classes]:
    """The text and the classes of one ticket."""
    (item_class, item_word), (fault_class, fault_word), (time_class, time_word) = (
        _slot_words("item")[item],
        _slot_words("fault")[fault],
        _slot_words("time")[time],
    )
    text = TEMPLATES[template].format(item=item_word, fault=fault_word, time=time_word)
    return text, (item_class, fault_class, time_class)


@functools.lru_cache(maxsize=4)
def _shuffled(seed: int) -> np.ndarray:
    """Ticket numbers [NUM_TICKETS] in the order of a seeded hash of each.

    The hash is the finalizer of splitmix64 (Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators"), a bijection, so that no two keys are equal.
    """
    golden = 0x9E3779B97F4A7C15
    start = digest64(_HASH_NAME, seed)
    keys = np.uint64(start) + np.arange(NUM_TICKETS, dtype=np.uint64) * np.uint64(golden)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    order = np.argsort(keys ^ (keys >> np.uint64(31)), kind="stable")
    order.flags.writeable = False
    return order
