"""LangChain messages → chat messages and prefill."""

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ChatMessage as RoleMessage

from langchain_ssd.backend import ChatMessage
from langchain_ssd.errors import InvalidRequest, UnsupportedContent
from langchain_ssd.messages import to_chat
from langchain_ssd.plain_text import check_text

HELLO = HumanMessage("hello")


def texts(messages):
    return [(message.role, message.content) for message in to_chat(messages)[0]]


def test_roles_text_and_names():
    messages = [
        SystemMessage("be kind"),
        HumanMessage("hi", name="ada"),
        AIMessage("hey"),
        HumanMessage("so?"),
    ]
    chat, prefill = to_chat(messages)
    assert chat == (
        ChatMessage("system", "be kind"),
        ChatMessage("user", "hi", name="ada"),
        ChatMessage("assistant", "hey"),
        ChatMessage("user", "so?"),
    )
    assert prefill == ""


@pytest.mark.parametrize(
    ("role", "expected"),
    [("user", "user"), ("Human", "user"), ("system", "system"), ("developer", "system")],
)
def test_generic_messages_with_known_roles(role, expected):
    assert texts([RoleMessage("x", role=role)]) == [(expected, "x")]


@pytest.mark.parametrize(
    "message",
    [RoleMessage("x", role="wizard"), FunctionMessage("x", name="f"), RemoveMessage(id="1")],
)
def test_odd_roles_are_refused_without_quoting_them(message):
    with pytest.raises(UnsupportedContent, match="message 2 has a role") as caught:
        to_chat([HELLO, message])
    assert "wizard" not in str(caught.value)


def test_neighbours_of_one_role_become_one():
    messages = [
        SystemMessage("a"), SystemMessage("b"), HumanMessage("c"), HumanMessage(""), HumanMessage("d"),
        AIMessage("e"), AIMessage("f"), HumanMessage("g"),
    ]  # fmt: skip
    assert texts(messages) == [
        ("system", "a\n\nb"),
        ("user", "c\n\nd"),
        ("assistant", "e\n\nf"),
        ("user", "g"),
    ]


def test_a_system_message_in_the_middle_stays_there():
    messages = [SystemMessage("a"), HELLO, SystemMessage("b"), HumanMessage("c")]
    assert [role for role, _ in texts(messages)] == ["system", "user", "system", "user"]


def test_a_name_survives_merging_only_if_both_have_it():
    assert to_chat([HumanMessage("a", name="x"), HumanMessage("b", name="x")])[0][0].name == "x"
    assert to_chat([HumanMessage("a", name="x"), HumanMessage("b", name="y")])[0][0].name is None


def test_lists_of_texts_are_joined_as_they_are():
    content = [
        "one ",
        {"type": "text", "text": "two"},
        {"type": "text", "text": " three", "cache_control": {}},
    ]
    assert texts([HumanMessage(content)]) == [("user", "one two three")]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "url": "https://secret.example/cat.png"},
        {"type": "image_url", "image_url": {"url": "data:secret"}},
        {"type": "audio", "base64": "secret"},
        {"type": "file", "file_id": "secret"},
        {"type": "text", "text": None},
        {"type": "reasoning", "reasoning": "secret"},
        {"type": "refusal", "refusal": "secret"},
        {"type": "tool_result", "content": "secret"},
        {"no": "type"},
    ],
)
def test_other_content_is_refused_without_quoting_it(block):
    with pytest.raises(UnsupportedContent, match="message 1 holds something other than text") as caught:
        to_chat([HumanMessage(["look:", block])])
    assert "secret" not in str(caught.value)


def test_earlier_ai_turns_lose_reasoning_and_keep_refusals():
    content = [
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "thinking", "thinking": "hm"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "text", "text": "Well. "},
        {"type": "refusal", "refusal": "No."},
        {"type": "non_standard", "value": {"type": "refusal", "refusal": " Sorry."}},
    ]
    assert texts([HELLO, AIMessage(content), HELLO])[1] == ("assistant", "Well. No. Sorry.")


@pytest.mark.parametrize("first", [{"type": "text", "text": "I can't."}, "I can't.", "Sure\n\nI can't."])
def test_our_own_refusals_are_not_said_twice(first):
    content = [first, {"type": "refusal", "refusal": "I can't.", "extras": {}}]
    assert texts([HELLO, AIMessage(content), HELLO])[1][1].count("I can't.") == 1


def test_a_refusal_beside_empty_content_is_kept():
    refused = AIMessage("", additional_kwargs={"refusal": "No."})
    assert texts([HELLO, refused, HELLO])[1] == ("assistant", "No.")


def test_tool_calls_and_tool_messages():
    calls = [{"name": "get", "args": {"city": "Zürich"}, "id": "1"}]
    broken = [{"name": "get", "args": "{oops", "id": "2", "error": None}]
    asking = AIMessage("", tool_calls=calls, invalid_tool_calls=broken)
    result = ToolMessage([{"type": "text", "text": "sunny"}], tool_call_id="1", name="get")
    chat, _ = to_chat([HELLO, asking, result, ToolMessage("rain", tool_call_id="2")])
    assert chat[1].tool_calls == (
        {"id": "1", "type": "function", "function": {"name": "get", "arguments": {"city": "Zürich"}}},
        {"id": "2", "type": "function", "function": {"name": "get", "arguments": "{oops"}},
    )
    assert chat[2] == ChatMessage("tool", "sunny", name="get", tool_call_id="1")
    assert chat[3] == ChatMessage("tool", "rain", tool_call_id="2")


def test_an_ai_message_after_tool_calls_is_not_merged_into_them():
    asking = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    assert len(to_chat([HELLO, asking, AIMessage("b"), HELLO])[0]) == 4


@pytest.mark.parametrize("text", ["Sure, here is", " two  spaces ", "\n", "ends with newline\n"])
def test_a_trailing_ai_message_is_a_prefill_kept_exactly(text):
    assert to_chat([HELLO, AIMessage(text)]) == ((ChatMessage("user", "hello"),), text)
    assert to_chat([HELLO, AIMessageChunk(content=[{"type": "text", "text": text}])])[1] == text
    assert to_chat([HELLO, AIMessage("a"), AIMessage(text)])[1] == f"a\n\n{text}"


def test_an_empty_trailing_ai_message_is_no_prefill():
    assert to_chat([HELLO, AIMessage("")]) == ((ChatMessage("user", "hello"),), "")


def test_a_prefill_cannot_hold_tool_calls():
    with pytest.raises(InvalidRequest, match="tool messages after it"):
        to_chat([HELLO, AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])])


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "no messages"),
        ([HumanMessage("")], "no text"),
        ([HumanMessage(" \n")], "no text"),
        ([HumanMessage([])], "no text"),
        ([SystemMessage(""), HumanMessage("")], "no text"),
        ([AIMessage("")], "no text"),
        ([AIMessage("Sure")], "nothing was asked"),
        ([HumanMessage(""), AIMessage("Sure")], "nothing was asked"),
    ],
)
def test_nothing_to_answer(messages, why):
    with pytest.raises(InvalidRequest, match=why):
        to_chat(messages)


def test_a_system_message_alone_can_be_answered():
    assert to_chat([SystemMessage("Tell a joke."), AIMessage("A man")])[1] == "A man"


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("secret\x00"),
        HumanMessage([{"type": "text", "text": "secret\x00"}]),
        HumanMessage("a", name="secret\x00"),
        AIMessage("secret\x00"),
        ToolMessage("a", tool_call_id="secret\x00"),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": [{"b": "secret\x00"}]}, "id": "1"}]),
        AIMessage("", tool_calls=[{"name": "f", "args": {"secret\x00": 1}, "id": "1"}]),
    ],
)
def test_nul_is_named_and_not_quoted(message):
    with pytest.raises(InvalidRequest, match="message 2 holds a NUL character") as caught:
        to_chat([HELLO, message, HELLO])
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("message", [HumanMessage("secret \ud83d"), HumanMessage(["\udc00 secret"])])
def test_lone_surrogates_are_named_and_not_quoted(message):
    with pytest.raises(InvalidRequest, match="message 1 holds a lone surrogate") as caught:
        to_chat([message])
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_good_text_passes():
    assert check_text("🙂 <|im_end|> \u202e", "x") == "🙂 <|im_end|> \u202e"


def test_message_objects_are_not_changed():
    content = [{"type": "text", "text": "a"}]
    message = HumanMessage(content)
    to_chat([message, HumanMessage("b")])
    assert message.content == [{"type": "text", "text": "a"}]
