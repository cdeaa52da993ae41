import asyncio
import re
from contextlib import aclosing
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import (
    ContextLengthExceeded,
    DomainError,
    InvalidArgument,
    PermissionDenied,
    SlowReader,
    Unavailable,
    UnsupportedParameter,
)
from services.inference.engine import (
    Ended,
    EndReason,
    EngineCapabilities,
    Failed,
    Priority,
    PromptScored,
    SamplingParams,
    Token,
    TokenScore,
)
from services.inference.engines.echo_text import END_OF_TEXT, EchoText
from services.inference.events import (
    Aborted,
    Answer,
    AnyEvent,
    Delta,
    Done,
    Finished,
    FinishReason,
    Started,
    ToolDelta,
)
from services.inference.generation import Generator
from services.inference.requests import (
    Caller,
    ChatRequest,
    CompleteRequest,
    GenerationRequest,
    Guide,
    GuideKind,
    Image,
    Message,
    Sampling,
    Speaker,
    Tool,
    ToolChoice,
    ToolMode,
)
from services.serving.models import ModelKind, ModelSettings
from tests.unit.inference.scripted_engine import ScriptedEngine, registry_of

HELLO = (Message(Speaker.USER, ("hello",)),)
TOOLS = (Tool("add"), Tool("get_weather"))


DEFAULTS = Sampling()


def chat(sampling: Sampling = DEFAULTS, **more: object) -> ChatRequest:
    return replace(ChatRequest("m", HELLO, sampling), **more)


class Conversation:
    """A started request on a scripted engine, and the events that came out."""

    def __init__(self, engine: ScriptedEngine | None = None) -> None:
        self.engine = engine or ScriptedEngine()
        self.events: list[AnyEvent] = []

    async def start(
        self,
        request: GenerationRequest,
        model: ModelSettings | None = None,
        *,
        streamed: bool = True,
    ) -> "Conversation":
        registry = registry_of(self.engine, model)
        self.run = await Generator(registry).start(request, self.events.extend, streamed=streamed)
        self.engine.admit()
        return self

    @property
    def deltas(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(e.text, e.token_ids) for e in self.events if isinstance(e, Delta)]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.deltas)


async def test_a_stream_is_started_deltas_finished_done() -> None:
    talk = await Conversation().start(chat())
    talk.engine.tokens("hé")
    talk.engine.say(Ended(0, EndReason.EOS, cached_tokens=3))
    started, *deltas, finished, done = talk.events
    assert isinstance(started, Started)
    assert re.fullmatch(r"chatcmpl-[0-9A-Za-z]{24}", started.id)
    assert re.fullmatch(r"fp_[0-9a-f]{10}", started.fingerprint)
    assert deltas == [Delta(0, "h", (104,)), Delta(0, "é", (195, 169))]
    assert finished == Finished(0, FinishReason.STOP)
    assert isinstance(done, Done)
    # Three tokens and the end-of-sequence token.
    assert done.usage.completion_tokens == 4
    assert done.usage.cached_tokens == 3
    assert done.usage.total_tokens == done.usage.prompt_tokens + 4
    assert talk.run.over


async def test_a_character_cut_off_becomes_a_replacement_character() -> None:
    talk = await Conversation().start(chat())
    talk.engine.tokens(b"a\xc3")
    talk.engine.say(Ended(0, EndReason.LENGTH))
    assert talk.text == "a�"
    assert talk.deltas[-1] == ("�", (195,))


async def test_a_stop_text_ends_the_sequence_in_the_engine() -> None:
    talk = await Conversation().start(chat(Sampling(stop=("END",))))
    talk.engine.tokens("one EN two ENDING")
    assert talk.text == "one EN two "
    assert talk.engine.calls == ["finish 0"]
    assert talk.events[-2] == Finished(0, FinishReason.STOP, "END")
    done = talk.events[-1]
    assert isinstance(done, Done)
    assert done.usage.completion_tokens == len("one EN two END")


async def test_what_looked_like_a_stop_is_released_at_the_end() -> None:
    talk = await Conversation().start(chat(Sampling(stop=("END",))))
    talk.engine.tokens("one EN")
    assert talk.text == "one "
    talk.engine.say(Ended(0, EndReason.LENGTH))
    assert talk.deltas[-1] == ("EN", (69, 78))
    assert talk.events[-2] == Finished(0, FinishReason.LENGTH)


async def test_stops_of_the_model_are_added() -> None:
    talk = await Conversation().start(chat(), ModelSettings(stop=("|",)))
    talk.engine.tokens("a|b")
    assert talk.text == "a"


async def test_logprobs_go_out_with_their_text() -> None:
    talk = await Conversation().start(chat(Sampling(logprobs=0, stop=("END",))))
    talk.engine.tokens("é EN", logprob=-0.5)
    talk.engine.tokens("DED", logprob=-0.5)
    assert talk.text == "é "
    logprobs = [entry for e in talk.events if isinstance(e, Delta) for entry in e.logprobs]
    assert [entry.piece for entry in logprobs] == [b"\xc3", b"\xa9", b" "]
    assert logprobs[0].token == "�"
    assert {entry.logprob for entry in logprobs} == {-0.5}


@settings(deadline=None, max_examples=50)
@given(
    st.text(alphabet="aé€😀<END> ", max_size=30),
    st.lists(st.text(alphabet="aé€😀END", min_size=1, max_size=3), max_size=3),
    st.booleans(),
    st.booleans(),
)
def test_deltas_add_up_and_tokens_belong_to_their_text(
    text: str, stops: list[str], scored: bool, tools: bool
) -> None:
    async def body() -> None:
        request = chat(
            Sampling(stop=tuple(stops), logprobs=0 if scored else None),
            tools=TOOLS if tools else (),
        )
        talk = await Conversation().start(request)
        talk.engine.tokens(text, logprob=-1.0 if scored else None)
        if not talk.run.over:
            talk.engine.say(Ended(0, EndReason.EOS))
        ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
        visible = text
        if ends:
            longest = max(
                (stop for stop in stops if stop and text[: min(ends)].endswith(stop)), key=len
            )
            visible = text[: min(ends) - len(longest)]
        assert talk.text == visible
        raw = bytes(token for _, tokens in talk.deltas for token in tokens)
        assert raw.startswith(visible.encode())
        logprobs = [entry for e in talk.events if isinstance(e, Delta) for entry in e.logprobs]
        assert b"".join(entry.piece for entry in logprobs) == (raw if scored else b"")

    asyncio.run(body())


async def test_choices_have_seeds_of_their_own_and_interleave() -> None:
    talk = await Conversation().start(chat(Sampling(n=2, seed=2**63 - 1)))
    assert talk.engine.group is not None
    assert [s.params.seed for s in talk.engine.group.sequences] == [2**63 - 1, -(2**63)]
    talk.engine.say(Token(1, 98), Token(0, 97))
    talk.engine.say(Ended(0, EndReason.EOS), Ended(1, EndReason.LENGTH))
    assert [e.index for e in talk.events if isinstance(e, Delta | Finished)] == [1, 0, 0, 1]


async def test_a_seed_is_drawn_where_none_is_given() -> None:
    seeds: set[int] = set()
    for _ in range(3):
        talk = await Conversation().start(chat())
        assert talk.engine.group is not None
        seeds.add(talk.engine.group.sequences[0].params.seed)
    assert len(seeds) == 3


async def collected(engine: ScriptedEngine, request: GenerationRequest) -> asyncio.Task[Answer]:
    task = asyncio.create_task(Generator(registry_of(engine)).collect(request))
    await engine.submitted.wait()
    engine.admit()
    return task


async def test_best_of_returns_the_most_probable_and_counts_all() -> None:
    engine = ScriptedEngine()
    task = await collected(engine, chat(Sampling(best_of=3, n=2)))
    assert engine.group is not None
    assert engine.group.sequences[0].params.logprobs == 0
    for index, logprob in enumerate((-2.0, -0.5, -1.0)):
        engine.tokens(f"c{index}", index, logprob)
        engine.say(Ended(index, EndReason.LENGTH))
    answer = await task
    assert [(c.index, c.text, c.logprobs) for c in answer.choices] == [(0, "c1", ()), (1, "c2", ())]
    assert answer.usage.completion_tokens == 6


async def test_completions_number_choices_by_prompt() -> None:
    engine = ScriptedEngine()
    request = CompleteRequest("m", ("ab", (99,)), Sampling(n=2), echo=True)
    task = await collected(engine, request)
    for index in range(4):
        engine.tokens(str(index), index)
        engine.say(Ended(index, EndReason.LENGTH))
    answer = await task
    assert [choice.text for choice in answer.choices] == ["ab0", "ab1", "c2", "c3"]
    assert [choice.token_ids for choice in answer.choices] == [(48,), (49,), (50,), (51,)]
    assert answer.usage.prompt_tokens == 3
    assert answer.started.id.startswith("cmpl-")


async def test_a_scored_prompt_is_echoed_with_its_scores() -> None:
    engine = ScriptedEngine()
    request = CompleteRequest("m", ("ab",), Sampling(logprobs=1, max_tokens=0), echo=True)
    task = await collected(engine, request)
    engine.say(PromptScored(0, [TokenScore(98, -0.25, ((98, -0.25),))]))
    engine.say(Ended(0, EndReason.LENGTH))
    (choice,) = (await task).choices
    assert choice.text == "ab"
    assert [entry.logprob for entry in choice.logprobs] == [None, -0.25]
    assert choice.logprobs[1].top[0].piece == b"b"
    assert choice.token_ids == ()


async def test_tokens_that_the_model_adds_are_not_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = EchoText.encode

    def with_bos(self: EchoText, text: str, *, add_special: bool = False) -> list[int]:
        return [END_OF_TEXT] * add_special + encode(self, text)

    monkeypatch.setattr(EchoText, "encode", with_bos)
    engine = ScriptedEngine()
    request = CompleteRequest("m", ("ab",), Sampling(logprobs=0, max_tokens=0), echo=True)
    task = await collected(engine, request)
    engine.say(PromptScored(0, [TokenScore(97, -0.5), TokenScore(98, -0.25)]))
    engine.say(Ended(0, EndReason.LENGTH))
    answer = await task
    shown = [(entry.piece, entry.logprob) for entry in answer.choices[0].logprobs]
    assert shown == [(b"a", None), (b"b", -0.25)]
    assert answer.usage.prompt_tokens == 3


async def test_tool_calls_come_as_deltas() -> None:
    talk = await Conversation().start(chat(tools=TOOLS))
    talk.engine.tokens('ok <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    talk.engine.say(Ended(0, EndReason.EOS))
    calls = [event for event in talk.events if isinstance(event, ToolDelta)]
    assert calls[0].name == "add"
    assert re.fullmatch(r"call_[0-9A-Za-z]{24}", calls[0].id)
    assert "".join(call.arguments_json for call in calls) == '{"a": 1}'
    assert {call.call_index for call in calls} == {0}
    assert all(not call.id and not call.name for call in calls[1:])
    assert talk.text == "ok"
    assert talk.events[-2] == Finished(0, FinishReason.TOOL_CALLS)


async def test_without_parallel_calls_the_first_ends_the_answer() -> None:
    talk = await Conversation().start(chat(tools=TOOLS, parallel_tool_calls=False))
    talk.engine.tokens('<tool_call>{"name": "add", "arguments": {}}</tool_call><tool_call>')
    assert talk.engine.calls == ["finish 0"]
    assert talk.events[-2] == Finished(0, FinishReason.TOOL_CALLS)


async def test_a_named_tool_is_opened_in_the_prompt() -> None:
    choice = ToolChoice(ToolMode.NAMED, "add")
    talk = await Conversation().start(chat(tools=TOOLS, tool_choice=choice))
    assert talk.engine.group is not None
    prompt = bytes(id for id in talk.engine.group.sequences[0].prompt if id < 256).decode()
    assert prompt.endswith('<tool_call>\n{"name": "add", "arguments":')
    talk.engine.tokens(' {"a": 2}}\n</tool_call>')
    calls = [event for event in talk.events if isinstance(event, ToolDelta)]
    assert "".join(call.arguments_json for call in calls) == '{"a": 2}'
    assert talk.events[-2] == Finished(0, FinishReason.TOOL_CALLS)


async def test_tools_that_may_not_be_called_are_not_offered() -> None:
    talk = await Conversation().start(chat(tools=TOOLS, tool_choice=ToolChoice(ToolMode.NONE)))
    text = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    talk.engine.tokens(text)
    assert talk.text == text
    assert talk.engine.group is not None
    assert b"get_weather" not in bytes(t for t in talk.engine.group.sequences[0].prompt if t < 256)


async def test_settings_of_the_model_fill_in() -> None:
    model = ModelSettings(
        default_temperature=0.5, default_top_p=0.25, default_max_tokens=7, system_prompt="Be kind."
    )
    talk = await Conversation().start(chat(), model)
    assert talk.engine.group is not None
    (sequence,) = talk.engine.group.sequences
    assert (sequence.params.temperature, sequence.params.top_p) == (0.5, 0.25)
    assert sequence.params.max_tokens == 7
    assert b"Be kind." in bytes(token for token in sequence.prompt if token < 256)
    talk = await Conversation().start(chat(Sampling(temperature=0, max_tokens=9)), model)
    assert talk.engine.group is not None
    (sequence,) = talk.engine.group.sequences
    assert (sequence.params.temperature, sequence.params.max_tokens) == (0, 9)


NOTHING = EngineCapabilities(frozenset())
EVERYTHING = EngineCapabilities(
    frozenset(f.name for f in fields(SamplingParams)), max_top_logprobs=20, prompt_logprobs=True
)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (chat(Sampling(temperature=0.5)), "sampling.temperature"),
        (chat(Sampling(top_p=0.5)), "sampling.top_p"),
        (chat(Sampling(top_k=5)), "sampling.top_k"),
        (chat(Sampling(min_p=0.5)), "sampling.min_p"),
        (chat(Sampling(typical_p=0.5)), "sampling.typical_p"),
        (chat(Sampling(repetition_penalty=2)), "sampling.repetition_penalty"),
        (chat(Sampling(repeat_last_n=2)), "sampling.repeat_last_n"),
        (chat(Sampling(presence_penalty=1)), "sampling.presence_penalty"),
        (chat(Sampling(frequency_penalty=1)), "sampling.frequency_penalty"),
        (chat(Sampling(mirostat=2)), "sampling.mirostat"),
        (chat(Sampling(min_tokens=2)), "sampling.min_tokens"),
        (chat(Sampling(ignore_eos=True)), "sampling.ignore_eos"),
        (chat(Sampling(logit_bias={1: 1.0})), "sampling.logit_bias"),
        (chat(Sampling(logprobs=0)), "sampling.logprobs"),
        (chat(guide=Guide(GuideKind.JSON_OBJECT)), "guide.json_object"),
        (chat(guide=Guide(GuideKind.JSON_SCHEMA, "{}")), "guide.json_schema"),
        (chat(guide=Guide(GuideKind.REGEX, "a")), "guide.regex"),
        (chat(guide=Guide(GuideKind.GBNF, "a")), "guide.gbnf"),
        (
            chat(messages=(Message(Speaker.USER, ("see", Image(b"x"))),)),
            "messages[0].parts[1].image",
        ),
        (chat(tools=(Tool("a", strict=True),)), "tools[0].strict"),
        (chat(tools=TOOLS, tool_choice=ToolChoice(ToolMode.REQUIRED)), "tool_choice.mode"),
        (CompleteRequest("m", ("a",), suffix="b"), "suffix"),
    ],
)
async def test_what_an_engine_lacks_is_refused_by_name(
    request_: GenerationRequest, field: str
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        await Conversation(ScriptedEngine(NOTHING)).start(request_)
    assert caught.value.field == field


async def test_values_that_change_nothing_need_no_capability() -> None:
    neutral = Sampling(temperature=1, top_p=1, top_k=0, min_p=0, typical_p=1, mirostat=0, n=1)
    await Conversation(ScriptedEngine(NOTHING)).start(chat(neutral))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (chat(Sampling(n=2, best_of=1)), "sampling.best_of"),
        (chat(Sampling(best_of=2)), "sampling.best_of"),
        (chat(Sampling(n=5)), "sampling.n"),
        (chat(Sampling(max_tokens=101)), "sampling.max_tokens"),
        (chat(Sampling(min_tokens=9, max_tokens=8)), "sampling.min_tokens"),
        (chat(Sampling(logit_bias={9999: 1.0})), "sampling.logit_bias"),
        (chat(Sampling(stop_token_ids=(9999,))), "sampling.stop_token_ids"),
        (chat(tools=(Tool("a"), Tool("a"))), "tools"),
        (chat(tools=(Tool("a", parameters_json="{"),)), "tools[0].parameters_json"),
        (chat(tools=(Tool("a", parameters_json="[]"),)), "tools[0].parameters_json"),
        (chat(tool_choice=ToolChoice(ToolMode.REQUIRED)), "tool_choice.mode"),
        (chat(tool_choice=ToolChoice(ToolMode.NAMED, "x")), "tool_choice.name"),
        (chat(messages=(Message(Speaker.USER),)), "messages[0].parts"),
        (CompleteRequest("m", ((9999,),)), "prompts[0].token_ids"),
        (CompleteRequest("m", ("a", ())), "prompts[1].token_ids"),
        (CompleteRequest("m", ("a",) * 2048, Sampling(n=4)), "prompts"),
    ],
)
async def test_contradictions_are_refused_by_name(request_: GenerationRequest, field: str) -> None:
    limits = ModelSettings(max_choices=4, max_tokens_limit=100)
    with pytest.raises(InvalidArgument) as caught:
        await Conversation(ScriptedEngine(EVERYTHING)).start(request_, limits)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("request_", "field", "prompt_tokens"),
    [
        (chat(messages=(Message(Speaker.USER, ("x" * 300,)),)), "messages", 319),
        (chat(Sampling(max_tokens=90)), "messages", 24),
        (CompleteRequest("m", ("a", "x" * 100)), "prompts[1]", 100),
        (CompleteRequest("m", ("x" * 512_000,)), "prompts[0]", 1000),
    ],
)
async def test_the_context_is_a_limit_with_figures(
    request_: GenerationRequest, field: str, prompt_tokens: int
) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await Conversation(ScriptedEngine(context_length=100)).start(request_)
    assert caught.value.field == field
    assert caught.value.metadata["context_length"] == "100"
    assert caught.value.metadata["prompt_tokens"] == str(prompt_tokens)


async def test_only_some_may_hurry() -> None:
    generator = Generator(registry_of(engine := ScriptedEngine()))
    request = chat(priority=Priority.HIGH)
    with pytest.raises(PermissionDenied):
        await generator.start(request, lambda _: None, Caller("p"))
    await generator.start(request, lambda _: None, Caller("p", may_hurry=True, deadline=5.0))
    assert engine.group is not None
    assert (engine.group.priority, engine.group.deadline) == (Priority.HIGH, 5.0)


async def test_completion_models_do_not_chat() -> None:
    registry = registry_of(ScriptedEngine(), kind=ModelKind.COMPLETION)
    with pytest.raises(InvalidArgument) as caught:
        await Generator(registry).start(chat(), lambda _: None)
    assert caught.value.field == "model"
    await Generator(registry).start(CompleteRequest("alias", ("",)), lambda _: None)


async def test_a_failure_of_the_engine_is_the_last_event() -> None:
    talk = await Conversation().start(chat())
    error = Unavailable("gone")
    talk.engine.say(Token(0, 97), Failed(error))
    talk.engine.say(Token(0, 97))
    assert talk.events[1:] == [Delta(0, "a", (97,)), Aborted(error)]


async def test_a_refused_request_frees_the_model() -> None:
    registry = registry_of(ScriptedEngine())
    served = registry.resolve("m")
    with pytest.raises(DomainError):
        await Generator(registry).start(chat(Sampling(best_of=2)), lambda _: None)
    assert served.active == 0
    run = await Generator(registry).start(chat(), lambda _: None)
    assert served.active == 1
    run.cancel()
    run.cancel()
    assert served.active == 0
    await served.idle()


async def test_closing_a_stream_cancels() -> None:
    engine = ScriptedEngine()
    async with aclosing(Generator(registry_of(engine)).stream(chat())) as events:
        first = asyncio.ensure_future(anext(events))
        await engine.submitted.wait()
        engine.admit()
        assert isinstance(await first, Started)
    assert engine.calls == ["cancel"]


async def test_cancelling_a_collection_cancels() -> None:
    engine = ScriptedEngine()
    task = await collected(engine, chat())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.calls == ["cancel"]


async def test_a_slow_reader_pauses_the_engine_and_is_given_up() -> None:
    engine = ScriptedEngine()
    generator = Generator(registry_of(engine), slow_reader_timeout_s=0.02)
    async with aclosing(generator.stream(chat())) as events:
        first = asyncio.ensure_future(anext(events))
        await engine.submitted.wait()
        engine.admit()
        await first
        engine.tokens("x" * 64)
        assert engine.calls == ["pause"]
        for _ in range(40):
            await anext(events)
        assert engine.calls == ["pause", "resume"]
        engine.tokens("x" * 64)
        await asyncio.sleep(0.05)
        assert engine.calls == ["pause", "resume", "pause", "cancel"]
        with pytest.raises(SlowReader):
            async for _ in events:
                pass
