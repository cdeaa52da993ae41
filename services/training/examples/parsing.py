"""Makes an example of a line."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.training.examples import places
from services.training.examples.conversations import answer, conversation
from services.training.examples.formats import (
    ChatExample,
    CompletionExample,
    Example,
    Format,
    PreferenceExample,
    Role,
)
from services.training.examples.functions import tools
from services.training.examples.lines import LONGEST
from services.training.examples.shapes import Object, a_string, an_object, missing, only_keys
from services.training.examples.strict_json import Fault, decode

_TOOL_KEYS: Final = ("tools", "parallel_tool_calls", "functions")
_TELLING: Final[Mapping[str, Format]] = {
    "messages": Format.CHAT,
    "prompt": Format.COMPLETION,
    "completion": Format.COMPLETION,
    "input": Format.PREFERENCE,
    "preferred_output": Format.PREFERENCE,
    "non_preferred_output": Format.PREFERENCE,
}
_KEYS: Final = {
    Format.CHAT: '"messages"',
    Format.COMPLETION: '"prompt" and "completion"',
    Format.PREFERENCE: '"input", "preferred_output" and "non_preferred_output"',
}


def parse(line: bytes | None, formats: frozenset[Format]) -> tuple[Format, Example]:
    """Reads a line (None: one that is too long) as an example of one of some formats.

    Raises:
        Fault: it is none.
    """
    if line is None:
        raise Fault(f"the line is longer than {LONGEST >> 20} MiB", places.fixed(0))
    value = decode(line)
    if isinstance(value, list):
        message = "the line must be an object, not a list; write one object a line, without [ and ]"
        raise Fault(message, places.value())
    read = an_object(value)
    format = _format(read, formats)
    return format, _READERS[format](read)


def _format(read: Object, formats: frozenset[Format]) -> Format:
    for key, format in _TELLING.items():
        if key in read:
            if format in formats:
                return format
            raise Fault(
                f"this is a {format.value} example, and {_wanted(formats)} expected here: all "
                "lines of a file have one format, which the method of the job can learn from",
                places.key(key),
            )
    raise Fault(f"not an example: {_wanted(formats)} expected", places.value())


def _wanted(formats: frozenset[Format]) -> str:
    named = [f"{format.value} examples ({_KEYS[format]})" for format in Format if format in formats]
    return " or ".join(named) + " are"


def _chat(read: Object) -> ChatExample:
    only_keys(read, (), ("messages", *_TOOL_KEYS), "a chat example")
    if read.get("messages") is None:
        raise missing("messages", ())
    messages = conversation(read["messages"], "messages", weighted=True)
    said = [message for message in messages if message.role is Role.ASSISTANT]
    if not said:
        message = '"messages" has no message of the assistant: there is nothing to learn'
        raise Fault(message, places.value("messages"))
    if not any(message.weight for message in said):
        message = 'all of the assistant\'s messages have "weight" 0: there is nothing to learn'
        raise Fault(message, places.value("messages", messages.index(said[0]), "weight"))
    return ChatExample(messages, tools(read))


def _completion(read: Object) -> CompletionExample:
    only_keys(read, (), ("prompt", "completion"), "a completion example")
    for key in ("prompt", "completion"):
        if read.get(key) is None:
            raise missing(key, ())
    prompt = a_string(read["prompt"], "prompt")
    completion = a_string(read["completion"], "completion")
    if not completion:
        message = '"completion" is empty: there is nothing to learn'
        raise Fault(message, places.value("completion"))
    return CompletionExample(prompt, completion)


def _preference(read: Object) -> PreferenceExample:
    keys = ("input", "preferred_output", "non_preferred_output")
    only_keys(read, (), keys, "a preference example")
    for key in keys:
        if read.get(key) is None:
            raise missing(key, ())
    given = an_object(read["input"], "input")
    only_keys(given, ("input",), ("messages", *_TOOL_KEYS), "the input")
    if given.get("messages") is None:
        raise missing("messages", ("input",))
    return PreferenceExample(
        conversation(given["messages"], "input", "messages", weighted=False),
        answer(read["preferred_output"], "preferred_output"),
        answer(read["non_preferred_output"], "non_preferred_output"),
        tools(given, "input"),
    )


_READERS: Final[Mapping[Format, Callable[[Object], Any]]] = {
    Format.CHAT: _chat,
    Format.COMPLETION: _completion,
    Format.PREFERENCE: _preference,
}
