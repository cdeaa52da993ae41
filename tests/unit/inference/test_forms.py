from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from services.errors import DomainError, InvalidArgument, UnsupportedParameter
from services.inference.conversation import plan_tools
from services.inference.engine import Ended, EndReason, Grammar, GrammarKind
from services.inference.engines.echo_engine import CAPABILITIES
from services.inference.events import FinishReason
from services.inference.forms import form_of
from services.inference.generation import Generator
from services.inference.requests import (
    ChatRequest,
    CompleteRequest,
    Guide,
    GuideKind,
    Message,
    Sampling,
    Speaker,
    Tool,
    ToolChoice,
    ToolMode,
)
from tests.unit.inference.scripted_engine import ScriptedEngine, registry_of

GUIDED = replace(CAPABILITIES, json_object=True, json_schema=True, regex=True, gbnf=True)
HELLO = (Message(Speaker.USER, ("hi",)),)
SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}}'
TOOLS = (Tool("a", parameters_json=SCHEMA), Tool("b", parameters_json=SCHEMA, strict=True))
LOOSE = (TOOLS[0], Tool("c"))


def chat(**fields: object) -> ChatRequest:
    return ChatRequest("m", HELLO, **fields)  # type: ignore[arg-type]


def form(request: ChatRequest) -> Grammar | None:
    served = registry_of(ScriptedEngine(GUIDED)).resolve("m")
    return form_of(request, served, plan_tools(request, served))


REQUIRED = ToolChoice(ToolMode.REQUIRED)
REGEX = Guide(GuideKind.REGEX, "[ab]")


@pytest.mark.parametrize(
    ("guide", "kind", "source", "strict"),
    [
        (Guide(GuideKind.JSON_OBJECT), GrammarKind.JSON_OBJECT, "", False),
        (Guide(GuideKind.JSON_SCHEMA, "{}", True), GrammarKind.JSON_SCHEMA, "{}", True),
        (REGEX, GrammarKind.REGEX, "[ab]", False),
        (Guide(GuideKind.GBNF, 'root ::= "a"'), GrammarKind.GBNF, 'root ::= "a"', False),
    ],
)
def test_guides(guide: Guide, kind: GrammarKind, source: str, strict: bool) -> None:
    expected = Grammar(kind, source, strict=strict, field=f"guide.{kind.value}")
    assert form(chat(guide=guide)) == expected
    nothing = chat(guide=guide, tools=TOOLS, tool_choice=ToolChoice(ToolMode.NONE))
    assert form(nothing) == expected


@pytest.mark.parametrize(
    ("request_", "facts"),
    [
        # (required, several, schemas of the tags, form of an answer without calls)
        (chat(tools=TOOLS), (False, True, ["", SCHEMA], None)),
        (chat(tools=TOOLS, parallel_tool_calls=False), (False, False, ["", SCHEMA], None)),
        (chat(tools=TOOLS, tool_choice=REQUIRED), (True, True, ["", SCHEMA], None)),
        (
            chat(tools=LOOSE, tool_choice=REQUIRED, parallel_tool_calls=False, guide=REGEX),
            (True, False, ["", ""], None),
        ),
        (chat(tools=LOOSE, guide=REGEX), (False, True, ["", ""], GrammarKind.REGEX)),
        (chat(tools=LOOSE), None),
        (chat(), None),
    ],
)
def test_tools(request_: ChatRequest, facts: tuple[object, ...] | None) -> None:
    grammar = form(request_)
    if facts is None:
        assert grammar is None
        return
    assert grammar is not None
    schemas = [tag.schema for tag in grammar.tags]
    kind = None if grammar.text is None else grammar.text.kind
    assert (grammar.required, grammar.several, schemas, kind) == facts
    assert all(tag.begin.startswith(grammar.trigger) for tag in grammar.tags)
    assert grammar.trigger == "<tool_call>"


@pytest.mark.parametrize(
    ("choice", "tools", "schema"),
    [
        (ToolChoice(ToolMode.NAMED, "b"), TOOLS, SCHEMA),
        (ToolChoice(ToolMode.NAMED, "a"), TOOLS, ""),
        (REQUIRED, TOOLS[1:], SCHEMA),
        (REQUIRED, (Tool("x", strict=True),), '{"type":"object"}'),
    ],
)
def test_a_call_that_the_prompt_opens(
    choice: ToolChoice, tools: tuple[Tool, ...], schema: str
) -> None:
    grammar = form(chat(tools=tools, tool_choice=choice))
    assert grammar is not None
    [tag] = grammar.tags
    assert (grammar.required, grammar.several) == (True, False)
    assert (tag.begin, tag.schema) == (" ", schema)
    assert tag.end.endswith("</tool_call>")


async def test_forms_reach_every_sequence() -> None:
    engine = ScriptedEngine(GUIDED)
    request = CompleteRequest("m", ("a", "b"), Sampling(n=2), guide=REGEX)
    await Generator(registry_of(engine)).start(request, lambda events: None)
    assert engine.group is not None
    assert [s.grammar for s in engine.group.sequences] == [
        Grammar(GrammarKind.REGEX, "[ab]", field="guide.regex")
    ] * 4


async def test_a_required_answer_is_read_back_as_its_calls() -> None:
    engine = ScriptedEngine(GUIDED)
    task = Generator(registry_of(engine)).collect(chat(tools=TOOLS, tool_choice=REQUIRED))
    answer = asyncio.create_task(task)
    await engine.submitted.wait()
    assert engine.group is not None
    grammar = engine.group.sequences[0].grammar
    assert isinstance(grammar, Grammar)
    first, second = ({"city": "Rome"}, {"city": "Oslo"})
    text = grammar.separator.join(
        tag.begin + json.dumps(arguments) + tag.end
        for tag, arguments in zip(grammar.tags, (first, second), strict=True)
    )
    engine.admit()
    engine.tokens(text)
    engine.say(Ended(0, EndReason.EOS))
    [choice] = (await answer).choices
    assert choice.finish_reason is FinishReason.TOOL_CALLS
    assert [(c.name, json.loads(c.arguments_json)) for c in choice.tool_calls] == [
        ("a", first),
        ("b", second),
    ]


@pytest.mark.parametrize(
    ("request_", "kind", "field"),
    [
        (
            chat(guide=REGEX, sampling=Sampling(ignore_eos=True)),
            InvalidArgument,
            "sampling.ignore_eos",
        ),
        (chat(guide=replace(REGEX, strict=True)), InvalidArgument, "guide.strict"),
    ],
)
async def test_what_contradicts_a_form(
    request_: ChatRequest, kind: type[DomainError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        await Generator(registry_of(ScriptedEngine(GUIDED))).start(request_, lambda events: None)
    assert caught.value.field == field


async def test_engines_without_forms_refuse_by_name() -> None:
    for request, field in (
        (chat(guide=REGEX), "guide.regex"),
        (chat(tools=LOOSE, tool_choice=REQUIRED), "tool_choice.mode"),
        (chat(tools=TOOLS), "tools[1].strict"),
    ):
        with pytest.raises(UnsupportedParameter) as caught:
            await Generator(registry_of(ScriptedEngine())).start(request, lambda events: None)
        assert caught.value.field == field
