"""Output has the form that was asked for, whatever the model would rather say.

The models are random: without masks they write garbage, so the masks do all the work.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument, UnsupportedParameter
from services.inference.engine import (
    EndReason,
    Grammar,
    GrammarKind,
    LoadedModel,
    SequenceRequest,
    Tag,
)
from tests.conformance.conftest import make_echo, make_torch
from tests.conformance.recorder import Recorder, sequence, submit
from tests.conformance.schemas import SCHEMAS

JSON_OBJECT = Grammar(GrammarKind.JSON_OBJECT)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
BALANCED = 'root ::= "(" root? ")" | [a-c]{1,3}'


@pytest.fixture
async def model(tiny_llama: Path) -> AsyncIterator[LoadedModel]:
    loaded = await make_torch(tiny_llama, 8, 64, 2048)
    yield loaded
    await loaded.engine.close()


def schema(document: object, **more: Any) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(document), **more)


async def ask(
    model: LoadedModel, grammar: Grammar | None, max_tokens: int = 200, **params: Any
) -> SequenceRequest:
    compiled = None if grammar is None else await model.engine.compile(grammar)
    request = sequence(model.text.encode("Tell me:"), max_tokens, **params)
    return replace(request, grammar=compiled)


def text_of(model: LoadedModel, recorder: Recorder, index: int = 0) -> str:
    decoder = model.text.decoder([65])
    return "".join(map(decoder.feed, recorder.tokens(index))) + decoder.flush()


async def answer(
    model: LoadedModel, grammar: Grammar | None, max_tokens: int = 200, **params: Any
) -> tuple[str, EndReason]:
    return await answer_to(model, await ask(model, grammar, max_tokens, **params))


async def answer_to(model: LoadedModel, request: SequenceRequest) -> tuple[str, EndReason]:
    recorder = await submit(model.engine, request).until_over()
    if recorder.failure is not None:
        raise recorder.failure
    return text_of(model, recorder), recorder.end().reason


async def answers(
    model: LoadedModel,
    grammar: Grammar | None,
    max_tokens: int = 200,
    *,
    seeds: int,
    **params: Any,
) -> list[tuple[str, EndReason]]:
    """To so many seeds, together: as they come in batches they take a fraction of the steps."""
    requests = [await ask(model, grammar, max_tokens, seed=n, **params) for n in range(seeds)]
    return await asyncio.gather(*(answer_to(model, request) for request in requests))


CHECKS: dict[str, tuple[Grammar, str]] = {
    "regex": (
        Grammar(GrammarKind.REGEX, r"(yes|no), [A-C]{2,4}\d[.]"),
        r"(yes|no), [A-C]{2,4}\d[.]",
    ),
    "anchored regex": (Grammar(GrammarKind.REGEX, "^[a-f]{3}$"), "[a-f]{3}"),
    "unicode regex": (Grammar(GrammarKind.REGEX, "[äöü€]{2}😀"), "[äöü€]{2}😀"),
    "gbnf": (Grammar(GrammarKind.GBNF, 'root ::= "id-" [0-9]{1,4} | "none"'), r"id-\d{1,4}|none"),
    "recursive gbnf": (Grammar(GrammarKind.GBNF, BALANCED), r"\(*[a-c]{0,3}\)*"),
}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", CHECKS)
async def test_text_forms(model: LoadedModel, name: str, temperature: float) -> None:
    grammar, pattern = CHECKS[name]
    for text, reason in await answers(model, grammar, seeds=4, temperature=temperature):
        if reason is EndReason.EOS:
            assert re.fullmatch(pattern, text), text
            assert text.count("(") == text.count(")")
        else:
            assert name == "recursive gbnf"  # nothing else here can go on for 200 tokens


async def test_json_objects(model: LoadedModel) -> None:
    ended = 0
    for text, reason in await answers(model, JSON_OBJECT, seeds=12, temperature=0.9):
        assert text.startswith("{")
        if reason is EndReason.EOS:
            assert isinstance(json.loads(text), dict)
            ended += 1
    assert ended


async def test_a_schema_is_kept_to_in_the_order_of_its_properties(model: LoadedModel) -> None:
    requests = [
        await ask(model, schema(PERSON), seed=seed, temperature=1.5, logprobs=3)
        for seed in range(8)
    ]
    recorder = await submit(model.engine, *requests).until_over()
    for index in range(8):
        assert recorder.end(index).reason is EndReason.EOS
        value = json.loads(text_of(model, recorder, index))
        jsonschema.validate(value, PERSON)
        assert list(value) == ["name", "age", "tags"]


def test_any_schema_is_kept_to(tiny_llama: Path) -> None:
    taken: Counter[bool] = Counter()

    async def run(document: Any, seed: int, temperature: float) -> None:
        model = await shared(tiny_llama)
        refused = ""
        try:
            text, reason = await answer(
                model, schema(document), 120, seed=seed, temperature=temperature
            )
        except InvalidArgument as error:
            refused = error.field or "nowhere"
        taken[not refused] += 1
        if refused:  # some schemas contradict themselves
            assert refused.startswith("guide")
        elif reason is EndReason.EOS:
            jsonschema.validate(json.loads(text), document)

    @settings(max_examples=25, deadline=None)
    @given(SCHEMAS, st.integers(0, 2**32), st.sampled_from([0.0, 1.0]))
    def check(document: Any, seed: int, temperature: float) -> None:
        LOOP.run_until_complete(run(document, seed, temperature))

    check()
    assert taken[True] > 3 * taken[False]


LOOP = asyncio.new_event_loop()
_SHARED: list[LoadedModel] = []


async def shared(folder: Path) -> LoadedModel:
    if not _SHARED:
        _SHARED.append(await make_torch(folder, 8, 64, 2048))
    return _SHARED[0]


@pytest.fixture(autouse=True, scope="module")
def close_shared() -> Any:
    yield
    for model in _SHARED:
        LOOP.run_until_complete(model.engine.close())
    LOOP.close()


async def test_others_in_the_batch_are_left_alone(model: LoadedModel) -> None:
    free = [
        await ask(model, None, 30, seed=seed, temperature=temperature, ignore_eos=True)
        for seed, temperature in ((1, 0.0), (2, 1.0))
    ]
    alone = [(await submit(model.engine, request).until_over()).tokens() for request in free]
    guided = await ask(model, schema(PERSON), seed=5)
    mixed = await submit(model.engine, free[0], guided, free[1], guided).until_over()
    assert [mixed.tokens(0), mixed.tokens(2)] == alone
    assert mixed.tokens(1) == mixed.tokens(3)
    assert mixed.tokens(1) == (await submit(model.engine, guided).until_over()).tokens()


async def test_what_is_cut_off_is_the_beginning_of_a_whole(model: LoadedModel) -> None:
    whole, reason = await answer(model, schema(PERSON), seed=3)
    assert reason is EndReason.EOS
    request = await ask(model, schema(PERSON), seed=3)
    length = len((await submit(model.engine, request).until_over()).tokens())
    assert length > 9
    shorter = [await ask(model, schema(PERSON), most, seed=3) for most in range(1, min(length, 64))]
    for part, reason in await asyncio.gather(*(answer_to(model, each) for each in shorter)):
        assert reason is EndReason.LENGTH
        assert whole.startswith(part.rstrip("\ufffd"))


async def test_min_tokens_gives_way_only_when_the_form_is_complete(model: LoadedModel) -> None:
    ab = Grammar(GrammarKind.REGEX, "[ab]*")
    request = await ask(model, ab, seed=1, min_tokens=20)
    assert len((await submit(model.engine, request).until_over()).tokens()) >= 20
    text, reason = await answer(model, Grammar(GrammarKind.REGEX, "ab"), min_tokens=20)
    assert (text, reason) == ("ab", EndReason.EOS)


async def test_stop_tokens_come_only_where_the_form_is_complete(model: LoadedModel) -> None:
    x = model.text.encode("x")[0]
    grammar = Grammar(GrammarKind.REGEX, "[a-c]{5}")
    for text, _ in await answers(
        model, grammar, seeds=5, stop_token_ids=frozenset({x}), logit_bias={x: 100.0}
    ):
        assert re.fullmatch("[a-c]{5}", text)


async def test_a_form_that_gets_stuck_fails_with_its_field(model: LoadedModel) -> None:
    stops = frozenset(model.text.encode(c)[0] for c in "abc")
    grammar = Grammar(GrammarKind.REGEX, "x[abc]y", field="guide.regex")
    with pytest.raises(InvalidArgument) as caught:
        await answer(model, grammar, stop_token_ids=stops)
    assert caught.value.field == "guide.regex"
    with pytest.raises(InvalidArgument) as caught:
        await answer(model, grammar, ignore_eos=True)
    assert caught.value.field == "sampling.ignore_eos"
    assert (await answer(model, grammar))[0].startswith("x")  # the engine goes on


async def test_biases_and_penalties_choose_among_what_is_allowed(model: LoadedModel) -> None:
    b = model.text.encode("b")[0]
    grammar = Grammar(GrammarKind.REGEX, "(a|b|c){6}")
    text, _ = await answer(model, grammar, temperature=0, logit_bias={b: 100.0})
    assert text == "bbbbbb"
    text, _ = await answer(
        model,
        grammar,
        temperature=0,
        frequency_penalty=2.0,
        presence_penalty=2.0,
        repetition_penalty=5.0,
    )
    assert re.fullmatch("[abc]{6}", text)


async def test_a_model_that_loves_blanks_still_comes_to_an_end(model: LoadedModel) -> None:
    blanks = {model.text.encode(blank)[0]: 100.0 for blank in (" ", "\n")}
    grammar = schema({**PERSON, "required": []})
    text, reason = await answer(model, grammar, temperature=0, logit_bias=blanks)
    assert reason is EndReason.EOS
    assert "\n" + 20 * " " in text
    assert len(text) < 200
    jsonschema.validate(json.loads(text), PERSON | {"required": []})


async def test_scores_are_those_of_the_free_model(model: LoadedModel) -> None:
    free = await ask(model, None, 1, temperature=0, logprobs=5, ignore_eos=True)
    best = (await submit(model.engine, free).until_over()).scores()[0]
    guided = await ask(model, Grammar(GrammarKind.REGEX, "[0-9]"), 1, temperature=0, logprobs=5)
    score = (await submit(model.engine, guided).until_over()).scores()[0]
    assert score.top == best.top
    assert model.text.piece(score.token_id).isdigit()
    assert score.logprob <= best.logprob


WEATHER = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}}
TAGS = (
    Tag('<call>{"name": "w", "arguments": ', "}</call>", json.dumps(WEATHER), strict=True),
    Tag('<call>{"name": "t", "arguments": ', "}</call>"),
)
CALL = re.compile(r'<call>\{"name": "(w|t)", "arguments": (\{.*?\})\}</call>', re.DOTALL)


@pytest.mark.parametrize("several", [False, True])
async def test_required_calls(model: LoadedModel, several: bool) -> None:
    grammar = Grammar(GrammarKind.TOOLS, tags=TAGS, separator="\n", required=True, several=several)
    names: set[str] = set()
    for text, reason in await answers(model, grammar, 250, seeds=12, temperature=0.8):
        assert text.startswith('<call>{"name": "'[: len(text)])
        if reason is not EndReason.EOS:
            continue
        calls = [CALL.fullmatch(part) for part in text.split("\n<call>")[:1]]
        for call in filter(None, calls):
            names.add(call[1])
            value = json.loads(call[2])
            if call[1] == "w":
                jsonschema.validate(value, WEATHER)
                assert list(value) == ["city"]
        assert several or text.count("<call>") == 1
    assert names


async def test_free_text_may_hold_only_whole_calls(model: LoadedModel) -> None:
    bias = dict.fromkeys(model.text.encode("<call>"), 8.0)
    grammar = Grammar(GrammarKind.TOOLS, tags=TAGS[:1], trigger="<call>", several=True)
    met = 0
    for text, reason in await answers(
        model, grammar, 200, seeds=10, temperature=1.5, logit_bias=bias
    ):
        if reason is EndReason.EOS or text.count("</call>"):
            opened, closed = text.count("<call>"), len(CALL.findall(text))
            assert closed >= opened - (reason is not EndReason.EOS)
            met += opened
    text, _ = await answer(model, grammar, 3, temperature=0)
    assert met or text


async def test_an_answer_beside_calls_has_its_own_form(model: LoadedModel) -> None:
    for form, pattern in (
        (Grammar(GrammarKind.REGEX, "[0-9]{3}/"), "[0-9]{3}/"),
        (Grammar(GrammarKind.GBNF, 'root ::= "n" [0-9]'), "n[0-9]"),
        (schema({"type": "integer", "minimum": 5, "maximum": 9}), "[5-9]"),
    ):
        grammar = Grammar(GrammarKind.TOOLS, tags=TAGS[:1], text=form)
        less = dict.fromkeys(model.text.encode("<"), -100.0)
        text, _ = await answer(model, grammar, seed=1, temperature=0.5, logit_bias=less)
        assert re.fullmatch(pattern, text)
        more = dict.fromkeys(model.text.encode("<"), 100.0)
        text, _ = await answer(model, grammar, 20, seed=1, temperature=0.5, logit_bias=more)
        assert text.startswith("<call>")


async def test_special_tokens_frame_calls_and_never_stand_in_text(model: LoadedModel) -> None:
    special = model.text.encode("<|im_start|>")
    assert len(special) == 1
    tag = Tag("<|im_start|>f", "!", json.dumps(WEATHER), strict=True)
    grammar = Grammar(GrammarKind.TOOLS, tags=(tag,), required=True)
    recorder = await submit(model.engine, await ask(model, grammar, seed=2)).until_over()
    assert recorder.tokens()[0] == special[0]
    assert special[0] not in recorder.tokens()[1:]
    bias = {special[0]: 100.0}
    text, _ = await answer(model, Grammar(GrammarKind.REGEX, "(?s:.){8}"), logit_bias=bias)
    assert "im_start" not in text


async def test_engines_without_forms_refuse_them_by_name(tiny_llama: Path) -> None:
    echo = await make_echo(tiny_llama, 1, 1, 64)
    with pytest.raises(UnsupportedParameter) as caught:
        await echo.engine.compile(Grammar(GrammarKind.REGEX, "a", field="guide.regex"))
    assert caught.value.field == "guide.regex"
    with pytest.raises(InvalidArgument):
        submit(echo.engine, replace(sequence([65]), grammar="foreign"))
    await echo.engine.close()


async def test_forms_that_the_engine_did_not_make_are_refused(model: LoadedModel) -> None:
    with pytest.raises(InvalidArgument):
        submit(model.engine, replace(sequence([65]), grammar="foreign"))


async def test_a_form_is_made_once_and_shared(model: LoadedModel) -> None:
    one, two = await asyncio.gather(
        model.engine.compile(schema(PERSON, field="a")),
        model.engine.compile(schema(PERSON, field="b")),
    )
    assert one.matcher is two.matcher  # type: ignore[attr-defined]
    assert (one.field, two.field) == ("a", "b")  # type: ignore[attr-defined]
    task = asyncio.create_task(model.engine.compile(schema({"type": "integer"})))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    assert await model.engine.compile(schema({"type": "integer"}))
