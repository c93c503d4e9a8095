"""The embedded dataset says what its policies say, and nothing but the words tells."""

from __future__ import annotations

import collections
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import UserError
from distill.tickets import generator

SLOTS = (generator.ITEMS, generator.FAULTS, generator.TIMES)
CLASS_WORDS = {name: words for slot in SLOTS for name, words in slot.items()}
# damage+recent, damage+late, dislike+recent, dislike+late; the two policies differ in two items.
SITUATIONS = list(itertools.product(("damage", "dislike"), ("recent", "late")))
POLICIES = {
    "natural": {
        "appliance": ["replace", "repair", "refund", "refuse"],
        "clothing": ["refund", "repair", "replace", "refuse"],
        "food": ["refund", "refuse", "refuse", "refuse"],
    },
    "hard": {
        "appliance": ["replace", "repair", "refund", "refuse"],
        "clothing": ["refund", "refuse", "replace", "repair"],
        "food": ["refuse", "replace", "repair", "refund"],
    },
}


@pytest.mark.parametrize("policy", POLICIES)
def test_labels_follow_the_policy(policy):
    for row in generator.generate(policy, 500, 3, "train"):
        item, fault, time_ = generator.parse_ticket(row.input)
        expected = POLICIES[policy][item][SITUATIONS.index((fault, time_))]
        assert row.label == expected
        assert row.choices == generator.LABELS


def test_parse_finds_the_classes_that_the_words_were_taken_from():
    for template in generator.TEMPLATES:
        for names in generator.CELLS:
            for words in zip(*(CLASS_WORDS[name] for name in names), strict=True):
                ticket = template.format(**dict(zip(("item", "fault", "time"), words, strict=True)))
                assert generator.parse_ticket(ticket) == names


def test_there_are_24_words_a_class_and_no_word_is_in_two_places():
    assert len(CLASS_WORDS) == 7
    telling = [set(words) for words in CLASS_WORDS.values()]
    carriers = {"in", "last", "ago"}
    telling = [{w for phrase in words for w in phrase.split()} - carriers for words in telling]
    assert [len(words) for words in telling] == [24] * 7
    frame = {w for t in generator.TEMPLATES for w in t.format(item="", fault="", time="").split()}
    said = {w for cell in generator.CELLS for w in generator.rationale(cell).split()}
    for one, other in itertools.combinations([*telling, frame | carriers | said], 2):
        assert not one & other


def test_words_around_a_time_do_not_tell_its_class():
    forms = [
        collections.Counter(frozenset(phrase.split()) & {"in", "last", "ago"} for phrase in phrases)
        for phrases in generator.TIMES.values()
    ]
    assert forms[0] == forms[1]


def test_rationales_name_classes_and_never_a_label():
    assert generator.rationale(("appliance", "damage", "late")) == (
        "appliance with damage , bought late"
    )
    said = [generator.rationale(cell) for cell in generator.CELLS]
    assert len(set(said)) == 12
    assert not {word for text in said for word in text.split()} & set(generator.LABELS)


def test_words_cover_everything_that_is_said():
    known = set(generator.words())
    assert generator.words() == sorted(known)
    for row in generator.generate("hard", 3000, 0, "test"):
        assert row.input == row.input.lower() == " ".join(row.input.split())
        said = f"{row.input} {row.label} {generator.rationale(generator.parse_ticket(row.input))}"
        assert set(said.split()) <= known
    assert {"[label]", "[rationale]"} <= known


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 400), st.integers(1, 400))
def test_more_rows_continue_the_same_list(seed, small, large):
    small, large = sorted((small, large))
    for split in ("train", "test"):
        assert generator.generate("natural", large, seed, split)[:small] == generator.generate(
            "natural", small, seed, split
        )


def test_all_tickets_differ_and_the_splits_share_none():
    order = generator._shuffled(7)
    assert np.array_equal(np.sort(order), np.arange(generator.NUM_TICKETS))
    assert sorted(generator.SPLITS.values()) == [
        (0, generator.SPLITS["train"][1]),
        (generator.SPLITS["train"][1], generator.NUM_TICKETS),
    ]
    train = {row.input for row in generator.generate("hard", 100_000, 7, "train")}
    test = {row.input for row in generator.generate("hard", 50_000, 7, "test")}
    assert (len(train), len(test), len(train & test)) == (100_000, 50_000, 0)


def test_seeds_give_other_tickets_and_policies_the_same():
    natural = generator.generate("natural", 200, 0, "train")
    hard = generator.generate("hard", 200, 0, "train")
    assert [row.input for row in natural] == [row.input for row in hard]
    other = {row.input for row in generator.generate("hard", 200, 1, "train")}
    assert len(other & {row.input for row in hard}) < 5


def test_a_seed_stands_for_the_same_tickets_in_every_version():
    rows = generator.generate("natural", 3, 0, "train")
    assert [(row.id, row.input, row.label) for row in rows] == [
        ("returns/train/0", "what can you do about a ripped hat ? it came last august .", "repair"),
        (
            "returns/train/1",
            "what can you do about a pointless vacuum ? it came decades ago .",
            "refuse",
        ),
        (
            "returns/train/2",
            "trimesters ago i ordered this jersey , and now i find it strange .",
            "refuse",
        ),
    ]


def test_slots_and_templates_are_drawn_evenly():
    rows = generator.generate("natural", 20_000, 5, "train")
    labels = collections.Counter(row.label for row in rows)
    assert labels["refuse"] / 20_000 == pytest.approx(5 / 12, abs=0.015)
    cells = collections.Counter(generator.parse_ticket(row.input) for row in rows)
    assert len(cells) == 12
    assert all(abs(n / 20_000 - 1 / 12) < 0.01 for n in cells.values())
    hard = collections.Counter(row.label for row in generator.generate("hard", 20_000, 5, "train"))
    assert all(abs(hard[label] / 20_000 - 0.25) < 0.015 for label in generator.LABELS)


def test_its_time_is_linear_in_the_rows():
    start = time.thread_time()
    generator.generate("hard", 40_000, 12345, "train")
    assert time.thread_time() - start < 20  # 0.5 s alone; pairs of rows would take minutes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("natrual", 10, 0, "train"), r"unknown policy 'natrual' \(set by macro POLICY\).*natural"),
        (("hard", 10, 0, "valid"), "unknown split 'valid'"),
        (("hard", 0, 0, "train"), "got 0 rows .* expected 1 to 530841"),
        (("hard", 10**6, 0, "test"), "got 1000000 rows .* expected 1 to 132711"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        generator.generate(*arguments)


@pytest.mark.parametrize(
    "text",
    ["hello", "my fan seems burnt .", "my fan fan seems burnt in march", "a shirt fan burnt march"],
)
def test_other_texts_are_no_tickets(text):
    with pytest.raises(UserError, match="not a ticket"):
        generator.parse_ticket(text)
