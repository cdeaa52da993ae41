"""What models think reaches callers apart from the answer, where there may be a thought."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument, UnsupportedParameter
from services.inference.engine import NO_OPTIONS, Ended, EndReason, Token, TokenScore
from services.inference.engines.echo_engine import CAPABILITIES
from services.inference.engines.echo_text import EchoText
from services.inference.events import (
    AnyEvent,
    Delta,
    Done,
    Finished,
    FinishReason,
    ReasoningDelta,
    ToolDelta,
)
from services.inference.generation import Generator
from services.inference.requests import (
    ChatRequest,
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

HELLO = Message(Speaker.USER, ("hello",))
TOOLS = (Tool("add"), Tool("look"))


class Text(EchoText):
    """A template that opens a thought, or not, and may know the switch."""

    def __init__(self, *, opens: bool = False, switch: bool = False, thinks: bool = True) -> None:
        self.opens = opens
        self.template = "{{ messages }} tools"
        self.template += " <tool_call> <think></think>" if thinks else ""
        self.template += " enable_thinking" if switch else ""
        self.given: dict[str, Any] = {}
        """Variables of the template, and the messages."""

    @property
    def chat_template(self) -> str:
        return self.template

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        opening: str = "",
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> list[int]:
        self.given = {"messages": messages, **options}
        thought = "<think>\n" if self.opens and options.get("enable_thinking", True) else ""
        return super().prompt(messages, tools, opening=thought + opening)


class Talk:
    """A chat with a scripted engine."""

    def __init__(self, text: EchoText | None = None) -> None:
        self.engine = ScriptedEngine(replace(CAPABILITIES, json_object=True))
        self.events: list[AnyEvent] = []
        self.registry = registry_of(self.engine, text=text or Text())

    async def start(self, *messages: Message, **more: Any) -> "Talk":
        request = ChatRequest("m", messages or (HELLO,), **more)
        self.run = await Generator(self.registry).start(request, self.events.extend)
        self.engine.admit()
        return self

    def say(self, text: str, *, ends: bool = True) -> "Talk":
        self.engine.tokens(text)
        if ends:
            self.engine.say(Ended(0, EndReason.EOS))
        return self

    @property
    def thought(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, ReasoningDelta))

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Delta))

    @property
    def ids(self) -> list[int]:
        return [id for e in self.events if isinstance(e, Delta) for id in e.token_ids]

    @property
    def done(self) -> Done:
        assert isinstance(self.events[-1], Done)
        return self.events[-1]

    @property
    def prompt(self) -> str:
        assert self.engine.group is not None
        return EchoText().decode(self.engine.group.sequences[0].prompt)


async def test_a_thought_comes_before_the_answer_and_its_tokens_are_counted() -> None:
    talk = (await Talk().start()).say("<think>\nhm\n</think>\n\nyes")
    kinds = [type(event) for event in talk.events]
    assert kinds[1:] == [ReasoningDelta] * 2 + [Delta] * 3 + [Finished, Done]
    assert (talk.thought, talk.text, talk.ids) == ("hm", "yes", list(b"yes"))
    usage = talk.done.usage
    assert usage.completion_tokens == len("<think>\nhm\n</think>\n\nyes") + 1
    assert usage.reasoning_tokens == len("<think>\nhm\n</think>\n\n")


async def test_without_a_thought_everything_is_the_answer() -> None:
    talk = (await Talk().start()).say("\n<thing> yes")
    assert (talk.thought, talk.text, talk.ids) == ("", "\n<thing> yes", list(b"\n<thing> yes"))
    assert talk.done.usage.reasoning_tokens == 0


async def test_the_prompt_may_open_the_thought() -> None:
    talk = (await Talk(Text(opens=True)).start()).say("hm</think>yes")
    assert talk.prompt.endswith("<think>\n")
    assert (talk.thought, talk.text) == ("hm", "yes")


@pytest.mark.parametrize("text", ["", "<thi", " \n"])
async def test_what_may_become_a_thought_and_does_not_is_told_at_the_end(text: str) -> None:
    talk = (await Talk().start()).say(text)
    assert (talk.thought, talk.text, talk.ids) == ("", text, list(text.encode()))


async def test_an_answer_may_end_in_its_thought() -> None:
    talk = (await Talk().start(sampling=Sampling(max_tokens=12))).say("<think>hm</t", ends=False)
    talk.engine.say(Ended(0, EndReason.LENGTH))
    assert (talk.thought, talk.text) == ("hm</t", "")
    assert talk.events[-2] == Finished(0, FinishReason.LENGTH)
    assert talk.done.usage.reasoning_tokens == talk.done.usage.completion_tokens == 12


async def test_stop_texts_are_of_the_answer() -> None:
    talk = await Talk().start(sampling=Sampling(stop=("!",)))
    talk.say("<think>oh! no</think>yes! no", ends=False)
    assert (talk.thought, talk.text) == ("oh! no", "yes")
    assert talk.events[-2] == Finished(0, FinishReason.STOP, "!")


async def test_a_stop_text_in_what_was_held_ends_the_answer_once() -> None:
    talk = (await Talk().start(sampling=Sampling(stop=("<t",)))).say("<thx", ends=False)
    assert talk.text == ""
    assert talk.events[-2] == Finished(0, FinishReason.STOP, "<t")
    assert sum(isinstance(event, Finished) for event in talk.events) == 1
    talk = (await Talk().start(sampling=Sampling(stop=("<t",)))).say("<th")
    assert sum(isinstance(event, Finished) for event in talk.events) == 1


async def test_scores_are_of_the_answer() -> None:
    talk = await Talk().start(sampling=Sampling(logprobs=0))
    for byte in b"<think>hm</think>yes":
        talk.engine.say(Token(0, byte, TokenScore(byte, -0.5)))
    talk.engine.say(Ended(0, EndReason.EOS))
    scored = [entry.token for e in talk.events if isinstance(e, Delta) for entry in e.logprobs]
    assert scored == ["y", "e", "s"]


async def test_calls_in_a_thought_are_none() -> None:
    call = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    talk = (await Talk().start(tools=TOOLS)).say(f"<think>{call}</think>{call}")
    assert talk.thought == call
    assert {event.call_index for event in talk.events if isinstance(event, ToolDelta)} == {0}


GUIDE = Guide(GuideKind.JSON_OBJECT)
FORCED = {"tools": TOOLS, "tool_choice": ToolChoice(ToolMode.NAMED, "add")}


@pytest.mark.parametrize("asked", [{"guide": GUIDE}, FORCED])
async def test_what_has_a_form_comes_at_once(asked: dict[str, Any]) -> None:
    talk = await Talk(Text(opens=True)).start(**asked)
    assert "<think>\n\n\n</think>\n\n" in talk.prompt
    talk = await Talk().start(**asked)
    assert "think" not in talk.prompt
    if "guide" in asked:
        assert talk.say("<think>x</think>").text == "<think>x</think>"
    else:
        assert talk.prompt.endswith('{"name": "add", "arguments":')


@pytest.mark.parametrize("switch", [True, False])
@pytest.mark.parametrize("opens", [True, False])
async def test_thinking_is_switched_off(opens: bool, switch: bool) -> None:
    text = Text(opens=opens, switch=switch)
    talk = await Talk(text).start(reasoning=False)
    if switch:
        assert text.given["enable_thinking"] is text.given["thinking"] is False
        assert "think" not in talk.prompt
    else:
        assert talk.prompt.rstrip().endswith("</think>")
        assert talk.prompt.count("<think>") == 1
    assert talk.say("yes").text == "yes"


async def test_thinking_is_switched_on_where_a_model_thinks() -> None:
    text = Text(switch=True)
    await Talk(text).start(reasoning=True)
    assert text.given["enable_thinking"] is True
    await Talk(text).start()
    assert "enable_thinking" not in text.given
    with pytest.raises(UnsupportedParameter) as refused:
        await Talk(Text(thinks=False)).start(reasoning=True)
    assert refused.value.field == "reasoning"
    talk = await Talk(Text(thinks=False)).start(reasoning=False)
    assert talk.say("<think>x</think>y").text == "<think>x</think>y"


async def test_earlier_thoughts_reach_the_template() -> None:
    text = Text()
    turn = Message(Speaker.ASSISTANT, ("yes",), reasoning="hm")
    await Talk(text).start(HELLO, turn, HELLO)
    assert [m.get("reasoning_content") for m in text.given["messages"]] == [None, "hm", None]
    with pytest.raises(InvalidArgument) as refused:
        await Talk().start(HELLO, replace(HELLO, reasoning="hm"))
    assert refused.value.field == "messages[1].reasoning"


async def test_whole_answers_and_the_best_of_several_have_their_thoughts() -> None:
    engine = ScriptedEngine()
    generator = Generator(registry_of(engine, text=Text()))
    asked = ChatRequest("m", (HELLO,), Sampling(n=1, best_of=2))
    collecting = asyncio.ensure_future(generator.collect(asked))
    await engine.submitted.wait()
    engine.admit()
    for index, (word, logprob) in enumerate((("bad", -2.0), ("good", -1.0))):
        engine.tokens(f"<think>{word}</think>{word}", index, logprob)
        engine.say(Ended(index, EndReason.EOS))
    answer = await collecting
    [choice] = answer.choices
    assert (choice.index, choice.reasoning, choice.text) == (0, "good", "good")
    assert answer.usage.reasoning_tokens == len("<think>bad</think>" + "<think>good</think>")


_PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<", "a", " ", "\n", "é", "!"]))


@given(pieces=_PIECES, stop=st.booleans(), opens=st.booleans())
def test_every_token_is_a_thoughts_or_an_answers(
    pieces: list[str], stop: bool, opens: bool
) -> None:
    async def run() -> Talk:
        sampling = Sampling(stop=("!",)) if stop else Sampling()
        talk = await Talk(Text(opens=opens)).start(sampling=sampling)
        return talk.say("".join(pieces))

    talk = asyncio.run(run())
    kinds = [type(e) for e in talk.events if isinstance(e, Delta | ReasoningDelta)]
    assert kinds == sorted(kinds, key=lambda kind: kind is Delta)
    usage = talk.done.usage
    assert 0 <= usage.reasoning_tokens <= usage.completion_tokens
    if not stop:
        told = usage.reasoning_tokens + len(talk.ids) + 1
        assert told == usage.completion_tokens
        assert EchoText().decode(talk.ids) == talk.text
