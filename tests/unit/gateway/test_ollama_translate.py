"""Ollama's requests: what is refused, and what fields are called in problems of services."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from penstock.embedding.v1 import embedding_pb2

from gateway.dialects.ollama import schema, translate
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

CHAT = msgspec.json.Decoder(schema.OllamaChatRequest)
GENERATE = msgspec.json.Decoder(schema.OllamaGenerateRequest)
EMBED = msgspec.json.Decoder(schema.OllamaEmbedRequest)
HELLO = [{"role": "user", "content": "hi"}]


def chat(**changes: Any) -> schema.OllamaChatRequest:
    body = {"model": "m", "messages": HELLO} | changes
    return decode(CHAT, json.dumps(body).encode())


def generate(**changes: Any) -> schema.OllamaGenerateRequest:
    return decode(GENERATE, json.dumps({"model": "m", "prompt": "hi"} | changes).encode())


def embed(**changes: Any) -> schema.OllamaEmbedRequest:
    return decode(EMBED, json.dumps({"model": "m", "input": "hi"} | changes).encode())


CALL = {"function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"options": {"temperature": -1}}, "options.temperature"),
        ({"options": {"top_p": 2}}, "options.top_p"),
        ({"options": {"num_predict": 2**31}}, "options.num_predict"),
        ({"options": {"stop": [1]}}, "options.stop[0]"),
        ({"options": {"seed": "1"}}, "options.seed"),
        ({"format": "xml"}, "format"),
        ({"format": [1]}, "format"),
        ({"format": True}, "format"),
        ({"think": "a lot"}, "think"),
        ({"think": 1}, "think"),
        ({"messages": [HELLO[0] | {"thinking": "hm"}]}, "messages[0].thinking"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": [{"role": "x"}]}, "messages[0].role"),
        ({"messages": [HELLO[0] | {"tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [HELLO[0] | {"images": ["?"]}]}, "messages[0].images[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"tools": [{"function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
    ],
)
def test_what_a_chat_is_refused_for_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        translate.to_chat_request(chat(**changes))
    assert (refused.value.problem.status, refused.value.problem.param) == (400, field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"template": "x"}, "template"),
        ({"context": [1, 2]}, "context"),
        ({"think": "high", "raw": True}, "think"),
        ({"raw": True, "system": "x"}, "system"),
        ({"suffix": "x", "images": ["aGk="]}, "images"),
        ({"images": ["https://example.com/a.png"]}, "images[0]"),
    ],
)
def test_what_a_prompt_is_refused_for_is_named(changes: dict[str, Any], field: str) -> None:
    body = generate(**changes)
    raw = translate.continues(body)
    translated = translate.to_complete_request if raw else translate.to_answer_request
    with pytest.raises(ProblemError) as refused:
        translated(body)
    assert (refused.value.problem.status, refused.value.problem.param) == (400, field)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {}},
        {"options": {"num_predict": -1, "seed": -1, "repeat_penalty": 0, "typical_p": 0}},
        {"options": {"num_predict": -2, "num_ctx": 4096, "num_gpu": 1, "tfs_z": 2, "stop": [""]}},
        {"format": "", "keep_alive": "5m", "logprobs": False, "options": None},
        {"format": None, "think": None, "keep_alive": -1, "tools": [], "stream": None},
    ],
)
def test_what_says_nothing_changes_nothing(changes: dict[str, Any]) -> None:
    assert translate.to_chat_request(chat(**changes)) == translate.to_chat_request(chat())


@pytest.mark.parametrize(
    ("think", "reasoning"),
    [(None, None), (True, True), (False, False), ("low", True), ("max", True)],
)
def test_who_says_nothing_of_thinking_leaves_it_to_the_model(
    think: Any, reasoning: bool | None
) -> None:
    for request in (
        translate.to_chat_request(chat(think=think)),
        translate.to_answer_request(generate(think=think)),
    ):
        assert (request.reasoning if request.HasField("reasoning") else None) == reasoning


def test_thoughts_of_earlier_turns_are_told() -> None:
    turns = [{"role": "assistant", "content": "a", "thinking": "hm"}, *HELLO]
    assert [m.reasoning for m in translate.to_chat_request(chat(messages=turns)).messages] == [
        "hm",
        "",
    ]


def test_what_only_completes_does_not_think() -> None:
    with pytest.raises(ProblemError) as refused:
        translate.to_complete_request(generate(think=True))
    assert refused.value.problem.message == '"m" does not support thinking'
    assert translate.to_complete_request(generate(think=False)).prompts[0].text == "hi"


def test_a_result_belongs_to_the_call_that_it_answers() -> None:
    calls = [{"function": {"name": name}} for name in ("f", "g", "f")]
    calls[2]["id"] = "mine"  # type: ignore[assignment]
    results = [{"role": "tool", "content": "x"} | more for more in ({"tool_name": "g"}, {}, {}, {})]
    turns = [{"role": "assistant", "tool_calls": calls}, *results]
    request = translate.to_chat_request(chat(messages=turns))
    assert [call.id for call in request.messages[0].tool_calls] == ["call_0_0", "call_0_1", "mine"]
    answered = [message.tool_call_id for message in request.messages[1:]]
    assert answered == ["call_0_1", "call_0_0", "mine", "call_4"]


def test_vectors_are_cut_unless_that_is_forbidden() -> None:
    for given, kept in (
        ({}, embedding_pb2.TRUNCATION_KEEP_START),
        ({"truncate": None}, embedding_pb2.TRUNCATION_KEEP_START),
        ({"truncate": True}, embedding_pb2.TRUNCATION_KEEP_START),
        ({"truncate": False}, embedding_pb2.TRUNCATION_REFUSE),
    ):
        request = translate.to_embed_request(embed(**given))
        assert request.truncation == kept
        assert request.normalize
    assert translate.to_embed_request(embed(dimensions=8)).dimensions == 8
    old = translate.to_embeddings_request(schema.OllamaEmbeddingsRequest(model="m", prompt="x"))
    assert not old.HasField("normalize")


@pytest.mark.parametrize(
    ("spelling", "param", "field"),
    [
        (translate.chat_spelling, "messages[1].parts[0]", "messages[1].content"),
        (translate.chat_spelling, "messages[1].parts[1].image", "messages[1].images"),
        (translate.chat_spelling, "sampling.repetition_penalty", "options.repeat_penalty"),
        (translate.chat_spelling, "sampling.max_tokens", "options.num_predict"),
        (translate.chat_spelling, "sampling.stop[0]", "options.stop[0]"),
        (translate.chat_spelling, "sampling.logprobs", "top_logprobs"),
        (translate.chat_spelling, "guide.json_schema", "format"),
        (translate.generate_spelling, "reasoning", "think"),
        (translate.chat_spelling, "tools[0].parameters_json", "tools[0].function.parameters"),
        (translate.chat_spelling, "tools[0].name", "tools[0].function.name"),
        (translate.generate_spelling, "messages[0].parts[1].image", "images"),
        (translate.generate_spelling, "messages", "prompt"),
        (translate.generate_spelling, "prompts[0]", "prompt"),
        (translate.generate_spelling, "suffix", "suffix"),
        (translate.embed_spelling(embed()), "inputs[0].text", "input"),
        (translate.embed_spelling(embed(input=["a", "b"])), "inputs[1]", "input[1]"),
        (translate.embeddings_spelling, "inputs[0]", "prompt"),
        (translate.catalogue_spelling, "name", "model"),
    ],
)
def test_fields_of_services_are_spelled_as_in_the_request(
    spelling: Any, param: str, field: str
) -> None:
    problem = spelling(Problem("INVALID_ARGUMENT", f"'{param}': no.", param))
    assert (problem.param, problem.message) == (field, f"'{field}': no.")
