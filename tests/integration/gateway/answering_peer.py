"""A peer for the edge: a retrieval service that answers, over real gRPC, scripted by the model.

`words` says the query's words, `tools` calls two tools, `silent` retrieves and says nothing,
`waiting` doesn't even retrieve, `pauses` begins and says nothing, `endless` never ends, nor does
`flood`, which says much, `breaks` fails after two words, `cut` ends without an end,
`fails-REASON-PARAM` fails naming a field. It knows no model with a colon in its name but
`ft:words`. The type `Nothing` has no objects, and there is no type `Missing`.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from penstock.inference.v1 import event_pb2, usage_pb2
from penstock.retrieval.v1 import answer_pb2, search_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2

from tests.integration.gateway.retrieval_peer import RetrievalPeer

USAGE = usage_pb2.Usage(prompt_tokens=10, completion_tokens=2, total_tokens=12)
PROMPTS = ("builtin::rag-default", "mine", "0194c0de-0000-7000-8000-000000000000")


def chat(**event: Any) -> answer_pb2.AnswerEvent:
    return answer_pb2.AnswerEvent(chat=event_pb2.ChatEvent(**event))


def delta(text: str) -> answer_pb2.AnswerEvent:
    score = event_pb2.TokenLogprob(token=text, logprob=-0.5, bytes=text.encode())
    return chat(delta=event_pb2.Delta(text=text, logprobs=[score]))


class AnsweringPeer(RetrievalPeer):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[service_pb2.AnswerRequest] = []
        self.sent = 0

    async def Answer(
        self, request: service_pb2.AnswerRequest, context: Any
    ) -> AsyncIterator[answer_pb2.AnswerEvent]:
        self.answers.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.live += 1
        try:
            await self._refuse(request, context)
            async for event in self._events(request, context):
                self.sent += 1
                yield event
        finally:
            self.live -= 1

    async def _refuse(self, request: service_pb2.AnswerRequest, context: Any) -> None:
        model = request.model
        if model == "no-such-model" or (":" in model and model != "ft:words"):
            await self._abort(context, "MODEL_NOT_FOUND", "model")
        if model.startswith("fails-"):
            _, reason, *param = model.split("-")
            await self._abort(context, reason, param[0] if param else None)
        if request.context.expression in ("Missing", "NoSuchType"):
            await self._abort(context, "NOT_FOUND", "context.expression")
        if request.context.expression == "Nothing":
            await self._abort(context, "FAILED_PRECONDITION", None)
        name = request.prompt.name
        if name and name.rpartition("/")[2] not in PROMPTS:
            await self._abort(context, "NOT_FOUND", "prompt.name")

    async def _events(
        self, request: service_pb2.AnswerRequest, context: Any
    ) -> AsyncIterator[answer_pb2.AnswerEvent]:
        model = request.model
        if model == "waiting":
            await asyncio.Event().wait()
        hits = [search_pb2.Hit(document=f"{request.parent}/collections/T/documents/1", text="t")]
        yield answer_pb2.AnswerEvent(retrieved=answer_pb2.Retrieved(hits=hits))
        if model == "silent":
            await asyncio.Event().wait()
        yield chat(started=event_pb2.Started(id="chatcmpl-a", model=model))
        if model == "pauses":
            await asyncio.Event().wait()
        for number, word in enumerate(request.query.split()):
            if model == "breaks" and number == 2:
                await self._abort(context, "INTERNAL", None)
            yield delta(word if number == 0 else f" {word}")
        while model in ("endless", "flood"):
            yield delta(" on" if model == "endless" else "x" * 100_000)
            await asyncio.sleep(0.001)
        if model == "cut":
            return
        reason = event_pb2.FINISH_REASON_STOP
        if model == "tools":
            reason = event_pb2.FINISH_REASON_TOOL_CALLS
            for event in TOOLS:
                yield chat(tool_delta=event)
        yield chat(finished=event_pb2.Finished(reason=reason))
        yield chat(done=event_pb2.Done(usage=USAGE))


TOOLS = (
    event_pb2.ToolDelta(call_index=0, id="call_1", name="f", arguments_json='{"a"'),
    event_pb2.ToolDelta(call_index=0, arguments_json=": 1}"),
    event_pb2.ToolDelta(call_index=1, id="call_2", name="g", arguments_json="oops"),
)
