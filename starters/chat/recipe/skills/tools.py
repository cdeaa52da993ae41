"""Calling tools, choosing among them, leaving them alone, and telling their results."""

from __future__ import annotations

import json
import re
from typing import Any

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, Message, Tool, assistant, system, user
from starters.chat.recipe.skills.facts import fact
from starters.chat.recipe.skills.smalltalk import NEEDS_TOOL, STYLES, chat, identity
from starters.chat.recipe.skills.statements import capitalised, rough
from starters.chat.recipe.skills.stories import any_story
from starters.chat.recipe.skills.toolbox import SUMS, Arguments, Call, Offer, call, offer
from starters.chat.recipe.source import Source


def _called(*calls: Call) -> Message:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in calls
        ],
    }


def written(name: str, arguments: Arguments) -> str:
    """A call the way the template writes it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def calls_in(text: str) -> list[tuple[str, Arguments]]:
    """Reads the calls in an answer; none where one of them is not well-formed."""
    found: list[tuple[str, Arguments]] = []
    for body in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.DOTALL):
        try:
            call_made = json.loads(body)
            found.append((call_made["name"], call_made["arguments"]))
        except (ValueError, KeyError, TypeError):
            return []
    return found


def _opening(source: Source) -> list[Message]:
    return [system(source.pick(STYLES))] if source.chance(0.3) else []


def _roughly(source: Source, asked: Call) -> str:
    """The request, in rough shape where that leaves every argument readable."""
    text = rough(source, asked.request)
    kept = all(str(v) in text for v in asked.arguments.values() if isinstance(v, str))
    return text if kept else asked.request


def _example(source: Source, asked: Call, tools: list[Tool]) -> Example:
    request = _roughly(source, asked)
    return Example(
        [*_opening(source), user(request), _called(asked)],
        tools,
        (written(asked.name, asked.arguments),),
        "call",
        asked.name + asked.request,
    )


def _signs(tool: Tool) -> set[str]:
    """What a request could mean a tool by."""
    function = tool["function"]
    name = function["name"]
    sums = {"sums"} if name in SUMS else set[str]()
    return {name, function.get("description", name), *sums}


def _others(source: Source, tools: list[Tool], count: int) -> list[Offer]:
    """Tools that no request for the given ones could mean."""
    taken = {word for tool in tools for word in _signs(tool)}
    found: list[Offer] = []
    while len(found) < count:
        other = offer(source)
        if taken.isdisjoint(_signs(other.tool)):
            taken |= _signs(other.tool)
            found.append(other)
    return found


def _distinct(source: Source, first: Call, count: int) -> list[Tool]:
    tools = [first.tool, *(other.tool for other in _others(source, [first.tool], count))]
    source.rng.shuffle(tools)
    return tools


def single(source: Source) -> Example:
    """One declared tool, and a request that needs it."""
    asked = call(source)
    return _example(source, asked, [asked.tool])


def choice(source: Source) -> Example:
    """Two to four declared tools, one of which fits."""
    asked = call(source)
    return _example(source, asked, _distinct(source, asked, source.pick((1, 1, 2, 3))))


def _both(source: Source, first: Call, second: Call) -> str:
    joint = source.pick((" and then ", ". Also, ", ", and "))
    return first.request.rstrip(".?") + joint + second.request


def parallel(source: Source) -> Example:
    """Two requests in one message, two calls in one turn."""
    first = call(source)
    second = _others(source, [first.tool], 1)[0].ask(source)
    tools = [first.tool, second.tool]
    source.rng.shuffle(tools)
    joined = _both(source, first, second)
    accept = "\n".join(written(c.name, c.arguments) for c in (first, second))
    return Example(
        [*_opening(source), user(joined), _called(first, second)], tools, (accept,), "call", joined
    )


def declined(source: Source) -> Example:
    """Tools are declared, but none fits: a plain answer."""
    plain = source.pick((chat, chat, fact, identity, any_story))(source)
    if plain.accepted == (NEEDS_TOOL,):
        return declined(source)
    return Example(
        plain.messages,
        _distinct(source, call(source), source.pick((0, 1, 2))),
        plain.accepted,
        plain.judge,
        plain.instance,
    )


def _value(source: Source) -> Any:
    return source.pick(
        (
            lambda: source.number(),
            lambda: source.made_up().capitalize(),
            lambda: source.pick(words.ADJECTIVES),
            lambda: source.place(),
            lambda: source.full_name(),
            lambda: source.date(),
            lambda: source.clock(),
            lambda: source.code(),
            lambda: source.item(),
            lambda: source.integer(1, 99) + 0.5,
        )
    )()


def _result(source: Source) -> tuple[str, str]:
    """What a tool gives back, and the sentence that tells it."""
    roll = source.rng.random()
    if roll < 0.2:
        told = f"The {source.pick(words.NOUNS)} of {source.place()} is {_value(source)}."
        return told, told
    if roll < 0.35:
        value = str(_value(source))
        return value, f"The result is {value}."
    if roll < 0.42:
        key = source.pick(("status", "ok", "result"))
        return json.dumps({key: source.pick(("ok", "done", "success", "sent"))}), "It is done."
    if roll < 0.5:
        why = f"{source.item()} not found"
        return json.dumps({"error": why}), f"That did not work: {why}."
    keys: list[str] = []
    while len(keys) < source.pick((1, 2, 2, 2, 3)):
        key = source.pick((source.pick(words.NOUNS), source.pick(_KEYS), source.pick(_KEYS)))
        if key not in keys:
            keys.append(key)
    values = {key: _value(source) for key in keys}
    clauses = [f"the {key.replace('_', ' ')} is {value}" for key, value in values.items()]
    told = " and ".join((", ".join(clauses[:-1]), clauses[-1])) if len(clauses) > 1 else clauses[0]
    return json.dumps(values), capitalised(told) + "."


_KEYS = (
    "temperature",
    "condition",
    "price",
    "status",
    "city",
    "time",
    "name",
    "total",
    "wind",
    "humidity",
    "result",
    "unit",
    "location",
    "date",
    "currency",
    "count",
    "title",
    "forecast",
    "order_id",
    "state",
)


def result(source: Source) -> Example:
    """A call, its result, and the sentence that tells the result."""
    asked = call(source)
    given, told = _result(source)
    tools = [asked.tool] if source.chance(0.6) else _distinct(source, asked, 1)
    messages = [
        *_opening(source),
        user(_roughly(source, asked)),
        _called(asked),
        {"role": "tool", "content": given},
        assistant(told),
    ]
    return Example(messages, tools, key=given + asked.request)


def after_result(source: Source) -> Example:
    """A second request once the first has been answered."""
    first = result(source)
    again = call(source)
    tools = first.tools + (
        [again.tool] if again.name not in {t["function"]["name"] for t in first.tools} else []
    )
    if again.tool not in tools:
        return first
    return Example(
        [*first.messages, user(again.request), _called(again)],
        tools,
        (written(again.name, again.arguments),),
        "call",
        again.name + again.request,
    )


def session(source: Source) -> Example:
    """Several requests to the same tools, one a turn: dense practice for all that is above."""
    offers = _others(source, [], source.pick((1, 2, 2, 3, 3, 4)))
    turns: list[Message] = []
    for _ in range(source.integer(2, 7)):
        roll = source.rng.random()
        if roll < 0.12:
            plain = source.pick((chat, fact, identity))(source)
            if plain.accepted != (NEEDS_TOOL,):
                turns += plain.messages[-2:]
        elif roll < 0.45 and len(offers) > 1:
            both = [each.ask(source) for each in source.some(offers, 2)]
            turns += [user(_both(source, *both)), _called(*both)]
        else:
            asked = source.pick(offers).ask(source)
            turns += [user(_roughly(source, asked)), _called(asked)]
            if source.chance(0.5):
                given, told = _result(source)
                turns += [{"role": "tool", "content": given}, assistant(told)]
    if not turns:
        return session(source)
    tools = [each.tool for each in offers]
    return Example([*_opening(source), *turns], tools, key=json.dumps(turns))
