"""The checked form of a chat request: what is accepted, what is refused, and by which name."""

from typing import Any

import pytest

from retinue.domain.chat_request import ACCEPTED, NEUTRAL, parse_chat_request
from retinue.domain.refusal import Refusal

pytestmark = pytest.mark.unit

HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "bots/helper", "messages": HELLO, **fields}


def refused(document: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse_chat_request(document)
    assert caught.value.status == 400
    assert caught.value.document()["error"]["type"] == "invalid_request_error"
    return caught.value


def test_the_smallest_request_is_accepted() -> None:
    request = parse_chat_request(body())
    assert (request.model, request.messages) == ("bots/helper", HELLO)
    assert (request.stream, request.max_tokens, request.stop, request.seed) == (False, None, (), None)


def test_every_accepted_parameter_can_be_set() -> None:
    request = parse_chat_request(
        body(
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=12,
            max_completion_tokens=12,
            stop="END",
            seed=-3,
            user="u1",
            metadata={"a": "b"},
            store=False,
        )
    )
    assert request.stream
    assert request.include_usage
    assert (request.max_tokens, request.max_tokens_param) == (12, "max_completion_tokens")
    assert (request.stop, request.seed, request.user, request.metadata) == (("END",), -3, "u1", {"a": "b"})


@pytest.mark.parametrize("name", [n for n in ACCEPTED if n not in ("model", "messages")])
def test_null_means_not_given(name: str) -> None:
    assert parse_chat_request(body(**{name: None})) == parse_chat_request(body())


@pytest.mark.parametrize("name", ["temperature", "top_p", "n", "tools", "logit_bias", "presence_penalty", "nonsense"])
def test_a_parameter_without_effect_is_refused_by_its_name(name: str) -> None:
    refusal = refused(body(**{name: 0.5}))
    assert refusal.param == name
    assert refusal.code == "unsupported_parameter"
    assert name in refusal.message


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in NEUTRAL.items() for v in values])
def test_a_parameter_that_asks_for_what_happens_anyway_is_accepted(name: str, value: Any) -> None:
    parse_chat_request(body(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"), [("n", 2), ("n", True), ("logprobs", 0), ("tools", [{}]), ("response_format", {"type": "json"})]
)
def test_the_same_parameter_with_another_value_is_refused(name: str, value: Any) -> None:
    assert refused(body(**{name: value})).param == name


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ([], "body"),
        ({"messages": HELLO}, "model"),
        (body(model=""), "model"),
        (body(model=3), "model"),
        (body(model="x" * 129), "model"),
        ({"model": "m"}, "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=[3]), "messages[0]"),
        (body(messages=[*HELLO, {"role": "robot", "content": "x"}]), "messages[1].role"),
        (body(messages=[{"role": ["user"], "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": 3}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
        (body(messages=[{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
        (body(messages=[{"role": "user", "content": "x", "name": "bob"}]), "messages[0].name"),
        (
            body(messages=[{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]),
            "messages[0].tool_calls",
        ),
        (body(messages=[{"role": "tool", "content": "x", "tool_call_id": 3}]), "messages[0].tool_call_id"),
        (body(stream="yes"), "stream"),
        (body(stream_options={"include_usage": True}), "stream_options"),
        (body(stream=True, stream_options=3), "stream_options"),
        (body(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body(stream=True, stream_options={"other": True}), "stream_options.other"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens=True), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(max_tokens=1, max_completion_tokens=2), "max_tokens"),
        (body(max_completion_tokens=-1), "max_completion_tokens"),
        (body(stop=[""]), "stop"),
        (body(stop=["x"] * 17), "stop"),
        (body(stop=[3]), "stop"),
        (body(stop="x" * 257), "stop"),
        (body(seed="1"), "seed"),
        (body(seed=2**63), "seed"),
        (body(user=""), "user"),
        (body(metadata={"k": 1}), "metadata"),
        (body(metadata={str(i): "" for i in range(17)}), "metadata"),
        (body(store="no"), "store"),
    ],
)
def test_a_wrong_field_is_named(document: Any, param: str) -> None:
    assert refused(document).param == param


def test_an_image_part_is_refused_by_its_place() -> None:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    refusal = refused(body(messages=[{"role": "user", "content": parts}]))
    assert refusal.param == "messages[0].content[1].type"
    assert "image_url" in refusal.message


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert parse_chat_request(body(messages=[{"role": "user", "content": parts}])).messages == [
        {"role": "user", "content": "a\nb"}
    ]


def test_the_echo_of_an_assistant_message_is_accepted_as_openai_clients_send_it() -> None:
    echo: dict[str, Any] = {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "tool_calls": None,
        "audio": None,
    }
    assert parse_chat_request(body(messages=[echo, *HELLO])).messages[0] == {"role": "assistant", "content": "hi"}


def test_a_developer_message_is_a_system_message_and_a_tool_message_keeps_its_call() -> None:
    messages = [{"role": "developer", "content": "d"}, {"role": "tool", "content": "42", "tool_call_id": "c1"}]
    assert parse_chat_request(body(messages=messages)).messages == [
        {"role": "system", "content": "d"},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
    ]
