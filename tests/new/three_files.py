"""Three files of rows, each of another shape, written for these tests."""

from __future__ import annotations

import csv
import itertools
import json
import pathlib

QUEUES = ("billing", "shipping", "repair")
_ITEMS = ("kettle", "lamp", "radio", "chair", "phone", "clock", "mixer", "fan")
_TICKETS = {
    0: ("charged twice", "i paid for the {} twice , please look at the invoice"),
    1: ("where is it", "the {} was sent a week ago and has not come"),
    2: ("broken", "the {} does not switch on , it smells burnt"),
}
_ENDS = ("", " thanks", " please answer soon", " this is the second time", " regards")
_GOOD = ("warm", "clear", "lively", "honest")
_BAD = ("slow", "flat", "loud", "empty")
_THINGS = ("film", "play", "record", "novel", "show", "exhibition", "concert", "story")
_PLACES = {
    "milk": ("fridge", "oven", "drawer"),
    "books": ("shelf", "sink", "fridge"),
    "coats": ("wardrobe", "oven", "sink"),
    "knives": ("drawer", "bed", "wardrobe"),
    "bread": ("oven", "bed", "shelf"),
    "plates": ("sink", "wardrobe", "bed"),
}
_ASKED = ("where do {} belong", "where are {} kept", "someone looks for {} , where", "{} go where")


def write_tickets(path: pathlib.Path, repeats: int = 1) -> None:
    """CSV; the label is the number of a queue, the input is in two columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "subject", "message", "queue"])
        number = 0
        for turn in range(repeats):
            for (queue, (subject, message)), item, end in itertools.product(
                _TICKETS.items(), _ITEMS, _ENDS
            ):
                number += 1
                text = message.format(item) + end + ("" if not turn else f" #{turn}")
                writer.writerow([f"T-{number}", subject, text, queue])


def write_reviews(path: pathlib.Path) -> None:
    """JSONL; text and label lie in objects."""
    with path.open("w", encoding="utf-8") as file:
        for words, sentiment in ((_GOOD, "good"), (_BAD, "bad")):
            for thing, first, second in itertools.product(_THINGS, words, words):
                if first != second:
                    review = {
                        "review": {
                            "title": f"{thing.title()}, $5 \u2014 \u201c{first}\u201d",
                            "body": f"The {thing} was {first} and {second}.\nI stayed to the end.",
                        },
                        "meta": {"sentiment": sentiment, "helpful": [3, 1]},
                    }
                    file.write(json.dumps(review) + "\n")


def write_questions(path: pathlib.Path) -> None:
    """Parquet; each question has choices of its own, and the answer is the number of one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for turn, (asked, (things, places)) in enumerate(itertools.product(_ASKED, _PLACES.items())):
        for shift in range(3):
            order = [places[(shift + n) % 3] for n in range(3)]
            number = order.index(places[0])
            rows.append(
                {
                    "question": f"{asked.format(things)} ?" + " !" * (turn % 2),
                    "options": [{"text": each} for each in order],
                    "answer": number,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)
