"""What was reused reaches the usage; the hint of a request reaches the engine."""

import pytest

from services.inference.engine import Ended, EndReason, Reused
from services.inference.events import AnyEvent, Done
from services.inference.generation import Generator
from services.inference.requests import (
    CacheHint,
    ChatRequest,
    CompleteRequest,
    GenerationRequest,
    Message,
    Sampling,
    Speaker,
)
from tests.unit.inference.scripted_engine import ScriptedEngine, registry_of


async def start(request: GenerationRequest) -> tuple[ScriptedEngine, list[AnyEvent]]:
    engine, events = ScriptedEngine(), list[AnyEvent]()
    await Generator(registry_of(engine)).start(request, events.extend, streamed=False)
    engine.admit()
    return engine, events


def cached(events: list[AnyEvent]) -> int:
    assert isinstance(events[-1], Done)
    return events[-1].usage.cached_tokens


async def test_a_choice_that_a_stop_text_ends_reports_it() -> None:
    engine, events = await start(CompleteRequest("m", ("hello",), Sampling(stop=("b",))))
    engine.say(Reused(0, 4))
    engine.tokens("ab")
    assert cached(events) == 4


async def test_choices_of_one_prompt_count_what_the_first_of_them_found() -> None:
    engine, events = await start(CompleteRequest("m", ("hello", "hey"), Sampling(n=2)))
    for index, count in ((1, 4), (2, 3), (3, 2)):
        engine.say(Reused(index, count))
    for index, count in enumerate((0, 4, 3, 2)):
        engine.say(Ended(index, EndReason.EOS, cached_tokens=count))
    assert cached(events) == 0 + 2


@pytest.mark.parametrize(("hint", "reuse"), [(None, True), (True, True), (False, False)])
async def test_the_hint_reaches_the_engine(hint: bool | None, reuse: bool) -> None:
    request = CompleteRequest("m", ("hello",), cache_hint=CacheHint(reuse=hint))
    engine, _ = await start(request)
    assert engine.group is not None
    assert engine.group.reuse is reuse


async def test_chats_are_reused() -> None:
    engine, _ = await start(ChatRequest("m", (Message(Speaker.USER, ("hello",)),)))
    assert engine.group is not None
    assert engine.group.reuse
