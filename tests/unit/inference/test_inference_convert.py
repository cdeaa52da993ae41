"""Every field of the protos arrives in the domain and back, or is named here as left out."""

from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from penstock.inference.v1 import event_pb2, message_pb2, sampling_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as pb

from services.inference import convert, convert_events
from services.inference.events import (
    Answer,
    ChoiceAnswer,
    Delta,
    Done,
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    Started,
    Timings,
    TokenLogprob,
    ToolDelta,
    Usage,
)
from services.inference.requests import ToolCall

SAMPLES: dict[int, Any] = {
    FieldDescriptor.TYPE_STRING: "x",
    FieldDescriptor.TYPE_BYTES: b"x",
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_FLOAT: 0.5,
    FieldDescriptor.TYPE_INT32: 1,
    FieldDescriptor.TYPE_INT64: 1,
    FieldDescriptor.TYPE_ENUM: 1,
}


def filled(make: Any, only: FieldDescriptor) -> Any:
    """A message of which one field is set."""
    message = make()
    if only.message_type is not None and only.message_type.GetOptions().map_entry:
        key, value = only.message_type.fields
        getattr(message, only.name)[SAMPLES[key.type]] = SAMPLES[value.type]
    elif only.is_repeated:
        getattr(message, only.name).append(SAMPLES[only.type])
    else:
        setattr(message, only.name, SAMPLES[only.type])
    return message


def fields_of(message: Any) -> list[FieldDescriptor]:
    return list(message.DESCRIPTOR.fields)


@pytest.mark.parametrize("field", fields_of(sampling_pb2.Sampling), ids=lambda f: f.name)
def test_each_sampling_field_is_read(field: FieldDescriptor) -> None:
    message = filled(sampling_pb2.Sampling, field)
    given = convert.to_sampling(message)
    assert given != convert.to_sampling(sampling_pb2.Sampling())
    value = getattr(given, field.name)
    assert value not in (None, (), {}, False)


def test_zero_is_not_unset() -> None:
    given = convert.to_sampling(sampling_pb2.Sampling(temperature=0, seed=0, max_tokens=0))
    assert (given.temperature, given.seed, given.max_tokens, given.top_p) == (0, 0, 0, None)


REQUESTS = [
    (pb.ChatRequest, convert.to_chat_request),
    (pb.CompleteRequest, convert.to_complete_request),
]
EXAMPLES: dict[str, Any] = {
    "messages": message_pb2.Message(role=2),
    "sampling": sampling_pb2.Sampling(n=2),
    "tools": message_pb2.Tool(name="f"),
    "tool_choice": message_pb2.ToolChoice(mode=2),
    "guide": sampling_pb2.Guide(regex="a"),
    "prompts": pb.Prompt(text="a"),
    "cache_hint": pb.CacheHint(slot=1),
}
CASES = [
    pytest.param(make, read, field, id=f"{make.DESCRIPTOR.name}.{field.name}")
    for make, read in REQUESTS
    for field in fields_of(make)
]


@pytest.mark.parametrize(("make", "read", "field"), CASES)
def test_each_request_field_is_read(make: Any, read: Any, field: FieldDescriptor) -> None:
    message = make()
    if field.name in EXAMPLES:
        target = getattr(message, field.name)
        if field.is_repeated:
            target.append(EXAMPLES[field.name])
        else:
            target.CopyFrom(EXAMPLES[field.name])
    else:
        message = filled(make, field)
    assert read(message) != read(make())


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (message_pb2.Message, lambda m: convert.to_messages([with_role(m)])),
        (message_pb2.Tool, lambda m: convert.to_tools([m])),
        (
            message_pb2.ToolCall,
            lambda m: convert.to_messages([message_pb2.Message(role=3, tool_calls=[m])]),
        ),
        (
            message_pb2.ToolChoice,
            lambda m: convert.to_chat_request(pb.ChatRequest(tool_choice=m)),
        ),
        (pb.CacheHint, lambda m: convert.to_complete_request(pb.CompleteRequest(cache_hint=m))),
    ],
    ids=lambda value: getattr(getattr(value, "DESCRIPTOR", None), "name", ""),
)
def test_each_part_of_a_conversation_is_read(message: Any, read: Any) -> None:
    for field in fields_of(message):
        given = message()
        if field.name == "parts":
            given.parts.add(text="x")
        elif field.name == "tool_calls":
            given.tool_calls.add(id="x")
        elif field.name == "role":
            given.role = message_pb2.ROLE_TOOL
        else:
            given = filled(message, field)
        assert read(given) != read(message()), field.name


def with_role(message: message_pb2.Message) -> message_pb2.Message:
    """A message without role never passes validation."""
    message.role = message.role or message_pb2.ROLE_USER
    return message


def test_images_and_guides_are_read() -> None:
    image = message_pb2.Image(data=b"d", mime_type="image/png")
    part = message_pb2.Part(image=image)
    (message,) = convert.to_messages([message_pb2.Message(role=2, parts=[part])])
    (read,) = message.parts
    assert not isinstance(read, str)
    assert (read.data, read.mime_type) == (b"d", "image/png")
    for field in sampling_pb2.Guide.DESCRIPTOR.oneofs_by_name["guide"].fields:
        guide = sampling_pb2.Guide(**{field.name: SAMPLES[field.type], "strict": True})
        request = convert.to_chat_request(pb.ChatRequest(guide=guide))
        assert request.guide is not None
        assert request.guide.kind.value == field.name
        assert request.guide.strict


LOGPROB = TokenLogprob("t", 1, -0.5, b"t", (TokenLogprob("u", 2, -1.0, b"u"),))
STARTED = Started("id", "m", "fp", 1.5, 7)
USAGE = Usage(1, 2, 1, 1)
TIMINGS = Timings(1.0, 2.0, 3.0)
EVENTS: list[Event] = [
    STARTED,
    Delta(1, "t", (1,), (LOGPROB,)),
    ReasoningDelta(1, "t"),
    ToolDelta(1, 1, "id", "n", "{}"),
    Finished(1, FinishReason.LENGTH, "s"),
    Done(USAGE, TIMINGS),
]


def empty_fields(message: Any, path: str = "") -> set[str]:
    """Paths of fields that were left at their defaults, through lists and messages."""
    found: set[str] = set()
    given = {field.name: value for field, value in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        where = f"{path}.{field.name}"
        if field.name not in given:
            if field.containing_oneof is None or (field.has_presence and _synthetic(field)):
                found.add(where)
            continue
        inner = given[field.name]
        if field.message_type is None or field.message_type.full_name.startswith("google."):
            continue
        for one in inner if field.is_repeated else [inner]:
            found |= empty_fields(one, where)
    return found


def _synthetic(field: FieldDescriptor) -> bool:
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_each_field_of_an_event_is_written(event: Event) -> None:
    nested = {".delta.logprobs.top.top"}
    assert empty_fields(convert_events.from_chat_event(event)) <= nested
    if not isinstance(event, ToolDelta | ReasoningDelta):
        assert empty_fields(convert_events.from_complete_event(event)) <= nested


def test_every_kind_of_event_has_a_proto() -> None:
    written = {convert_events.from_chat_event(event).WhichOneof("event") for event in EVENTS}
    assert written == {field.name for field in event_pb2.ChatEvent.DESCRIPTOR.fields}


def test_each_field_of_an_answer_is_written() -> None:
    choice = ChoiceAnswer(
        1, "t", (ToolCall("id", "n", "{}"),), FinishReason.STOP, "s", (LOGPROB,), (1,), "hm"
    )
    answer = Answer(STARTED, (choice,), USAGE, TIMINGS)
    left_out = {
        ".choices.logprobs.top.top",
        # The assistant's own turn: it has no name and answers no call.
        ".choices.message.name",
        ".choices.message.tool_call_id",
    }
    assert empty_fields(convert_events.from_chat_answer(answer)) == left_out
    assert empty_fields(convert_events.from_complete_answer(answer)) == {
        ".choices.logprobs.top.top"
    }


def test_an_answer_of_calls_alone_has_no_text() -> None:
    choice = ChoiceAnswer(0, "", (ToolCall("id", "n", "{}"),), FinishReason.TOOL_CALLS, "", (), ())
    written = convert_events.from_chat_answer(Answer(STARTED, (choice,), USAGE, TIMINGS))
    assert not written.choices[0].message.parts
    assert written.choices[0].finish_reason == event_pb2.FINISH_REASON_TOOL_CALLS


def test_usage_adds_up() -> None:
    assert convert_events.from_usage(USAGE) == usage_pb2.Usage(
        prompt_tokens=1, completion_tokens=2, total_tokens=3, cached_tokens=1, reasoning_tokens=1
    )


def test_reasons_are_those_of_the_proto() -> None:
    names = {f"FINISH_REASON_{reason.name}": reason.value for reason in FinishReason}
    assert names == {k: v for k, v in event_pb2.FinishReason.items() if v}


def test_events_are_dataclasses_of_the_domain() -> None:
    assert all(is_dataclass(event) and fields(event) for event in EVENTS)
