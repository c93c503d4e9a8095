"""Answers of many servers are read; what is none has a typed reason."""

from __future__ import annotations

import json
import types

import pytest

from distill.errors import UserError
from distill.teacher.endpoint.client import Client, answer_of, check_url, read_key
from distill.teacher.endpoint.model_names import same_model
from distill.teacher.endpoint.outcomes import Doubtful, Permanent, Reason, Refused, Retry


def _body(**fields):
    return json.dumps({"model": "m", "choices": [{"message": {"content": "a"}}]} | fields).encode()


def read_answer(content: bytes, seconds: float):
    """The answer in a response's body, as the client reads it."""
    return answer_of(Client("http://localhost:1/v1", "k", 1, 1)._fields(content), seconds)


def test_choices_come_in_the_order_of_their_index():
    choices = [
        {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
    ]
    answer = read_answer(_body(choices=choices), 0.5)
    assert answer.texts == ("a", "b") and answer.finish == ("stop", "length")
    assert answer.model == "m" and answer.tokens is None and answer.seconds == 0.5


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"text": "a"}, "a"),
        ({"message": {"content": None, "refusal": "no"}}, ""),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}, "ab"),
        ({"message": {"reasoning_content": "long thoughts"}}, ""),
        ({}, ""),
    ],
)
def test_forms_of_a_choice(choice, text):
    assert read_answer(_body(choices=[choice]), 0).texts == (text,)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": "3", "completion_tokens": 4}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_believed_if_it_is_whole(usage, tokens):
    assert read_answer(_body(usage=usage), 0).tokens == tokens


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"choices": [{"mess', Reason.BAD_JSON),
        (b"\xff\xfe", Reason.BAD_JSON),
        (b"", Reason.BAD_JSON),
        (b"[]", Reason.BAD_JSON),
        (b"[" * 100_000, Reason.BAD_JSON),
        (b'{"choices": [1]}', Reason.BAD_JSON),
        (b'{"choices": []}', Reason.EMPTY_CHOICES),
        (b'{"choices": null}', Reason.EMPTY_CHOICES),
        (b"{}", Reason.EMPTY_CHOICES),
    ],
)
def test_what_is_no_answer(content, reason):
    with pytest.raises(Retry) as caught:
        read_answer(content, 0)
    assert caught.value.reason == reason


def test_an_answer_of_no_use_still_says_what_it_cost():
    with pytest.raises(Retry) as caught:
        read_answer(_body(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4}), 0)
    assert caught.value.tokens == (3, 4)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("m", "m"),
        ("M", "m"),
        ("m", ""),
        ("m", "m-2024-08-06"),
        ("org/m", "m"),
        ("m.gguf", "/models/m.gguf"),
        ("m", "models/m-001"),
        ("gpt-4", "gpt-4-0613"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet@20240620"),
        ("gemini-2.5-flash-preview", "gemini-2.5-flash-preview-04-17"),
        ("llama3.2", "llama3.2:latest"),
        ("org/m:free", "org/m"),
    ],
)
def test_dated_names_of_an_alias_are_the_same_model(asked, served):
    assert same_model(asked, served)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("m", "n"),
        ("gpt-4o", "gpt-4"),
        ("m", "mm"),
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4", "gpt-4-32k"),
        ("gpt-4", "gpt-4-32k-0613"),
        ("llama3-70b", "llama3-70b-8192"),
        ("mixtral-8x7b", "mixtral-8x7b-32768"),
        ("m-2024-08-06", "m-2024-05-13"),
        ("m-latest", "m-mini-2024-05-13"),
    ],
)
def test_names_of_other_models(asked, served):
    assert not same_model(asked, served)


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", " sk-1\n")
    assert read_key("MY_KEY", "https://api.example.com/v1") == "sk-1"
    monkeypatch.delenv("MY_KEY")
    assert read_key("MY_KEY", "http://localhost:8000/v1") == "none"
    with pytest.raises(UserError, match="MY_KEY is not set"):
        read_key("MY_KEY", "https://api.example.com/v1")


@pytest.mark.parametrize("key", ["sk-abc def", "sk-abc\u201c", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(
        UserError, match="environment variable MY_KEY contains a space or"
    ) as caught:
        read_key("MY_KEY", "https://api.example.com/v1")
    assert "sk-a" not in str(caught.value)


def test_a_key_given_for_the_name_of_its_variable_is_not_repeated():
    with pytest.raises(UserError, match="variable that --key_env names is not set") as caught:
        read_key("sk-abc-123", "https://api.example.com/v1")
    assert "sk-abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "", Permanent),
        (402, "", Permanent),
        (403, "", Doubtful),
        (404, "", Doubtful),
        (405, "", Doubtful),
        (429, "insufficient_quota", Permanent),
        (429, "", Retry),
        (408, "", Retry),
        (529, "", Retry),
        (400, "", Doubtful),
        (400, "context_length_exceeded", Refused),
        (400, "insufficient_quota", Permanent),
        (413, "", Refused),
        (422, "", Doubtful),
    ],
)
def test_what_a_status_means(status, code, kind):
    response = types.SimpleNamespace(headers={"retry-after": "3"})
    error = types.SimpleNamespace(
        status_code=status, code=code, message="m", body={"message": "m"}, response=response
    )
    found = Client("http://localhost:1/v1", "k", 1, 1)._status(error)
    assert type(found) is kind and (kind is not Retry or found.wait == 3)


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://u:p@h/v1", "h"])
def test_urls_that_cannot_be_asked(url):
    with pytest.raises(UserError) as caught:
        check_url(url)
    assert "u:p" not in str(caught.value)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match="pip install"):
        Client("http://localhost:1/v1", "k", 1, 1)
