"""Generation: from a request to the events of its answer.

request → model → sampling and tools checked → prompt rendered and tokenised → engine
        → events (`runs`, `choices`) → sink, stream or whole answer
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from services.errors import InvalidArgument
from services.inference.buffers import EventBuffer
from services.inference.choices import Choice
from services.inference.conversation import ToolPlan, check_chats, plan_tools
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
from services.inference.prompts import chat_prompt, text_prompt
from services.inference.registry import Registry, ServedModel
from services.inference.requests import Caller, ChatRequest, CompleteRequest, GenerationRequest
from services.inference.runs import PromptPlan, Run, RunPlan
from services.inference.scoring import Scorer
from services.inference.stops import StopFilter
from services.inference.thoughts import ThoughtReader
from services.inference.validation import (
    SamplingPlan,
    check_guide,
    check_priority,
    plan_sampling,
    unsupported,
    wrapped_seed,
)
from services.metering import FREE, Meter, Metered, Unmetered

_MOST_SEQUENCES = 2048
_BUFFERED_EVENTS = 64

_NOBODY = Caller()


class Generator:
    """Answers chats and completions with the models of a registry."""

    def __init__(
        self,
        registry: Registry,
        *,
        slow_reader_timeout_s: float = 30.0,
        meter: Meter | None = None,
    ) -> None:
        """Takes the models, and what keeps account of requests. None: nothing does."""
        self._registry = registry
        self._meter = meter or Unmetered()
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
            metered = await self._admitted(request, plan, caller)
        except BaseException:
            served.release()
            raise
        run = Run(plan, sink, metered, served.release)
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

    async def _admitted(self, request: GenerationRequest, plan: RunPlan, caller: Caller) -> Metered:
        if caller.work is None:
            return FREE
        return await self._meter.admit(
            replace(
                caller.work,
                request_id=plan.group.request_id,
                model=plan.served.id,
                prompt_tokens=sum(len(prompt.ids) for prompt in plan.prompts),
                most_output_tokens=sum(s.params.max_tokens for s in plan.group.sequences),
                user=request.user,
            )
        )

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
            check_chats(served, reasoning=request.reasoning)
            tools = plan_tools(request, served)
            prompts = [await chat_prompt(request, served, tools)]
            fields = ["messages"]
        else:
            if request.suffix:
                raise unsupported("suffix", "it does not fill in the middle")
            prompts = [
                await text_prompt(prompt, position, served, echo=echo, scored=scored)
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
    readers = [_reader(served, prompt) for prompt in prompts for _ in range(sampling.width)]
    if served.thoughts is not None and any(readers):
        keep |= served.thoughts.markers
    return [
        Choice(
            index,
            served.loaded.text.decoder(prompts[index // sampling.width].ids, keep=keep),
            thoughts=reader,
            stops=StopFilter(sampling.stops) if sampling.stops else None,
            tools=tools.reads.parser(names, tools.forced) if tools.reads is not None else None,
            scorer=scorer,
            single_call=tools.single,
        )
        for index, reader in enumerate(readers)
    ]


def _reader(served: ServedModel, prompt: PromptPlan) -> ThoughtReader | None:
    if served.thoughts is None or prompt.opens_thought is None:
        return None
    return ThoughtReader(served.thoughts, opened=prompt.opens_thought)
