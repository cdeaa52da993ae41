"""Generation: from a request to the events of its answer.

request → model → sampling and tools checked → prompt rendered and tokenised → engine
        → events (`runs`, `choices`) → sink, stream or whole answer
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from services.errors import InvalidArgument
from services.inference.buffers import EventBuffer
from services.inference.choices import Choice
from services.inference.conversation import ToolPlan, check_chats, plan_tools, prompt_ids
from services.inference.engine import GroupRequest, SequenceRequest
from services.inference.events import (
    Aborted,
    Answer,
    AnswerBuilder,
    AnyEvent,
    Done,
    Event,
    EventSink,
)
from services.inference.forms import compile_form
from services.inference.registry import Registry, ServedModel
from services.inference.requests import Caller, ChatRequest, CompleteRequest, GenerationRequest
from services.inference.runs import PromptPlan, Run, RunPlan
from services.inference.scoring import Scorer
from services.inference.stops import StopFilter
from services.inference.validation import (
    SamplingPlan,
    check_guide,
    check_priority,
    check_vocabulary,
    context_exceeded,
    plan_sampling,
    unsupported,
    wrapped_seed,
)

_OFF_LOOP_CHARACTERS = 4096
"""Texts longer than this are tokenised on another thread."""
_MOST_CHARACTERS_PER_TOKEN = 512
"""No tokenizer makes longer tokens: a prompt beyond it can't fit, and isn't tokenised at all."""
_MOST_SEQUENCES = 2048
_BUFFERED_EVENTS = 64

_NOBODY = Caller()
_T = TypeVar("_T")


class Generator:
    """Answers chats and completions with the models of a registry."""

    def __init__(self, registry: Registry, *, slow_reader_timeout_s: float = 30.0) -> None:
        self._registry = registry
        self._slow_reader_timeout_s = slow_reader_timeout_s

    async def start(
        self,
        request: GenerationRequest,
        sink: EventSink,
        caller: Caller = _NOBODY,
        *,
        streamed: bool = True,
    ) -> Run:
        """Submits a request. The sink then gets its events, ending in `Done` or `Aborted`.

        The sink is called on the event loop, once per engine step, never before this returns.
        Raises a `DomainError` when the request is refused.
        """
        served = self._registry.resolve(request.model)
        served.acquire()
        try:
            plan = await self._plan(request, served, caller, streamed=streamed)
        except BaseException:
            served.release()
            raise
        run = Run(plan, sink, served.release)
        run.begin()
        return run

    async def stream(
        self, request: GenerationRequest, caller: Caller = _NOBODY
    ) -> AsyncGenerator[Event, None]:
        """Yields the events of an answer. Closing the generator cancels the request.

        A reader that falls behind pauses the engine; one that stays behind is dropped with
        `SlowReader`.
        """
        buffer = EventBuffer(_BUFFERED_EVENTS, self._slow_reader_timeout_s)
        run = await self.start(request, buffer.put, caller)
        buffer.attach(run)
        try:
            while True:
                event = await buffer.get()
                if isinstance(event, Aborted):
                    raise event.error
                yield event
                if isinstance(event, Done):
                    return
        finally:
            buffer.close()
            run.cancel()

    async def collect(self, request: GenerationRequest, caller: Caller = _NOBODY) -> Answer:
        """Returns the whole answer. Cancelling the call cancels the request."""
        builder = AnswerBuilder()
        ended: asyncio.Future[Done] = asyncio.get_running_loop().create_future()

        def sink(events: Sequence[AnyEvent]) -> None:
            for event in events:
                if ended.done():
                    return
                if isinstance(event, Aborted):
                    ended.set_exception(event.error)
                    return
                builder.add(event)
                if isinstance(event, Done):
                    ended.set_result(event)

        run = await self.start(request, sink, caller, streamed=False)
        try:
            done = await ended
        finally:
            run.cancel()
        return builder.answer(done)

    async def _plan(
        self, request: GenerationRequest, served: ServedModel, caller: Caller, *, streamed: bool
    ) -> RunPlan:
        check_priority(request.priority, caller)
        check_guide(request.guide, served.loaded.engine.info.capabilities)
        echo = isinstance(request, CompleteRequest) and request.echo
        scored = echo and request.sampling.logprobs is not None
        sampling = plan_sampling(
            request.sampling, served, streamed=streamed, prompt_logprobs=scored
        )
        count = 1 if isinstance(request, ChatRequest) else len(request.prompts)
        if count * sampling.width > _MOST_SEQUENCES:
            raise InvalidArgument(
                f"'prompts': {count} prompts with {sampling.width} choices each are more than the "
                f"{_MOST_SEQUENCES} that one request may ask for.",
                field="prompts",
            )
        tools = ToolPlan()
        if isinstance(request, ChatRequest):
            check_chats(served)
            tools = plan_tools(request, served)
            prompts = [await _chat_prompt(request, served, tools)]
            fields = ["messages"]
        else:
            if request.suffix:
                raise unsupported("suffix", "it does not fill in the middle")
            prompts = [
                await _prompt(prompt, position, served, echo=echo, scored=scored)
                for position, prompt in enumerate(request.prompts)
            ]
            fields = [f"prompts[{position}]" for position in range(len(prompts))]
        limits = [
            sampling.max_tokens(len(prompt.ids), field)
            for prompt, field in zip(prompts, fields, strict=True)
        ]
        form = await compile_form(request, served, tools)
        scorer = Scorer(served.loaded.text) if request.sampling.logprobs is not None else None
        return RunPlan(
            served=served,
            id_prefix="chatcmpl-" if isinstance(request, ChatRequest) else "cmpl-",
            prompts=prompts,
            choices=_choices(sampling, prompts, served, tools, scorer),
            n=sampling.n,
            width=sampling.width,
            group=GroupRequest(
                sequences=_sequences(sampling, prompts, limits, form, scored=scored),
                principal=caller.principal,
                priority=request.priority,
                deadline=caller.deadline,
                request_id=request.request_id or caller.request_id,
                reuse=isinstance(request, ChatRequest) or request.cache_hint.reuse is not False,
            ),
            scorer=scorer if scored else None,
        )


async def off_loop(length: int, work: Callable[[], _T]) -> _T:
    """Runs text work of this many characters, on another thread when it is long."""
    if length <= _OFF_LOOP_CHARACTERS:
        return work()
    return await asyncio.to_thread(work)


def _sequences(
    sampling: SamplingPlan,
    prompts: Sequence[PromptPlan],
    limits: Sequence[int],
    form: object | None,
    *,
    scored: bool,
) -> list[SequenceRequest]:
    base = sampling.base
    return [
        SequenceRequest(
            prompt.ids,
            replace(base, max_tokens=limit, seed=wrapped_seed(base.seed, k)),
            form,
            prompt_logprobs=scored,
        )
        for prompt, limit in zip(prompts, limits, strict=True)
        for k in range(sampling.width)
    ]


def _choices(
    sampling: SamplingPlan,
    prompts: Sequence[PromptPlan],
    served: ServedModel,
    tools: ToolPlan,
    scorer: Scorer | None,
) -> list[Choice]:
    names = frozenset(tool.name for tool in tools.offered)
    keep = tools.reads.markers if tools.reads is not None else frozenset[str]()
    return [
        Choice(
            index,
            served.loaded.text.decoder(prompts[index // sampling.width].ids, keep=keep),
            stops=StopFilter(sampling.stops) if sampling.stops else None,
            tools=tools.reads.parser(names, tools.forced) if tools.reads is not None else None,
            scorer=scorer,
            single_call=tools.single,
        )
        for index in range(len(prompts) * sampling.width)
    ]


async def _chat_prompt(request: ChatRequest, served: ServedModel, tools: ToolPlan) -> PromptPlan:
    length = sum(len(message.text) for message in request.messages)
    _check_length(length, served, "messages")

    def work() -> Sequence[int]:
        return prompt_ids(
            served,
            request.messages,
            tools.offered,
            system_prompt=served.settings.system_prompt,
            opening=tools.opening,
        )

    length += sum(len(tool.parameters_json) for tool in tools.offered)
    return PromptPlan(await off_loop(length, work))


async def _prompt(
    prompt: str | tuple[int, ...],
    position: int,
    served: ServedModel,
    *,
    echo: bool,
    scored: bool,
) -> PromptPlan:
    text = served.loaded.text
    if isinstance(prompt, tuple):
        field = f"prompts[{position}].token_ids"
        check_vocabulary(prompt, served.loaded.engine.info.vocabulary_size, field)
        if not prompt:
            raise InvalidArgument(f"'{field}': is empty.", field=field)
        return PromptPlan(prompt, text.decode(prompt) if echo else None)
    _check_length(len(prompt), served, f"prompts[{position}]")
    ids = await off_loop(len(prompt), lambda: text.encode(prompt, add_special=True))
    if not ids:
        ids = text.encode(text.bos_token or text.eos_token)
    if not ids:
        field = f"prompts[{position}].text"
        raise InvalidArgument(
            f"'{field}': is empty, and the model has no token to begin with.", field=field
        )
    hidden = len(ids) - len(text.encode(prompt)) if scored else 0
    return PromptPlan(ids, prompt if echo else None, hidden)


def _check_length(characters: int, served: ServedModel, field: str) -> None:
    """Refuses texts that can't fit, before the work of tokenising them."""
    context_length = served.loaded.engine.info.context_length
    least = characters // _MOST_CHARACTERS_PER_TOKEN
    if least > context_length:
        raise context_exceeded(context_length, least, 0, field)
