"""Reranking: documents ordered by how well they answer a query.

By a cross-encoder, which reads query and document together, where the model is one; else by the
similarity of their vectors: (1 + cosine) / 2, so that 0.5 is unrelated.
"""

import asyncio
from collections.abc import Awaitable, Sequence

import numpy as np

from services.embedding.accounts import Counted, accounted
from services.embedding.batching import Order, Progress, until
from services.embedding.lengths import Room
from services.embedding.plans import check_priority, prefix_of, single_form
from services.embedding.preparing import Form, Prepared, Preparer
from services.embedding.registry import Registry, ServedModel
from services.embedding.requests import (
    Caller,
    Ranked,
    RerankAnswer,
    RerankMethod,
    RerankRequest,
    Task,
    Timings,
    Truncation,
)
from services.embedding.vectors import similarities
from services.metering import Meter, Unmetered

_NOBODY = Caller()
_QUERY_ADVICE = "Shorten it: nothing of a query is left out."


class Reranker:
    """Orders documents with the models of a registry."""

    def __init__(
        self,
        registry: Registry,
        preparer: Preparer,
        *,
        truncation: Truncation = Truncation.REFUSE,
        meter: Meter | None = None,
    ) -> None:
        """Takes what it works with; `truncation` is that of requests that name none, and `meter`
        keeps account (None: nothing does)."""
        self._meter = meter or Unmetered()
        self._registry = registry
        self._preparer = preparer
        self._truncation = truncation

    async def rerank(self, request: RerankRequest, caller: Caller = _NOBODY) -> RerankAnswer:
        """Returns documents, best first. Cancelling the call takes out what isn't computed yet.

        Raises a `DomainError` when the request is refused or can't be answered in time.
        """
        check_priority(request.priority, caller)
        registry = self._registry
        served = registry.resolve(request.model) if request.model else registry.for_reranking()
        prepared, progress = Prepared(), Progress()
        with served.serving() as batcher:
            async with until(caller.deadline, progress):
                order = Order(caller, request.priority, request_id=request.request_id)
                if served.info.scores_pairs:
                    await self._prepare_pairs(request, served, prepared)
                    method, truncated = RerankMethod.CROSS_ENCODER, prepared.truncated
                else:
                    await self._prepare_singles(request, served, prepared)
                    method, truncated = RerankMethod.EMBEDDING_SIMILARITY, prepared.truncated[1:]
                counted = Counted(served.id, request.user, prepared.total)
                async with accounted(self._meter, caller, counted, progress):
                    compute = batcher.compute(prepared.inputs, order, progress)
                    if served.info.scores_pairs:
                        scores, timings = await compute
                    else:
                        scores, timings = await _compare(compute)
        results = ranked(scores, truncated)
        return RerankAnswer(
            model=served.id,
            results=results[: request.top_n],
            method=method,
            tokens=prepared.total,
            timings=timings,
        )

    async def _prepare_pairs(
        self, request: RerankRequest, served: ServedModel, prepared: Prepared
    ) -> None:
        encoder = served.loaded.encoder
        text, context_length = encoder.text, encoder.info.context_length
        room = context_length - text.overhead(pair=True)
        # At least one token of a document has to follow the query.
        query_room = Room(room - 1, context_length, Truncation.REFUSE, advice=_QUERY_ADVICE)
        query_form = Form(encoder, query_room, text.single)
        query = await self._preparer.encode(request.query, query_form, "query")
        document_room = Room(
            room - len(query),
            context_length,
            request.truncation or self._truncation,
            request.max_tokens_per_document,
        )
        form = Form(encoder, document_room, lambda ids: text.pair(query, ids))
        await self._preparer.add(prepared, request.documents, form, "documents")

    async def _prepare_singles(
        self, request: RerankRequest, served: ServedModel, prepared: Prepared
    ) -> None:
        """The query, and behind it the documents."""
        prefix = prefix_of(served.info, Task.QUERY)
        query_form = single_form(served, prefix, Truncation.REFUSE, advice=_QUERY_ADVICE)
        ids = await self._preparer.encode(request.query, query_form, "query")
        tokens, truncated = query_form.apply(request.query, ids, "query")
        prepared.inputs.append(tokens)
        prepared.truncated.append(truncated)
        prepared.total += len(tokens.ids)
        form = single_form(
            served,
            prefix_of(served.info, Task.DOCUMENT),
            request.truncation or self._truncation,
            request.max_tokens_per_document,
        )
        await self._preparer.add(prepared, request.documents, form, "documents")


def ranked(scores: Sequence[float], truncated: Sequence[bool]) -> list[Ranked]:
    """Puts documents in order, best first; equal scores in the order of the request."""
    # Rounded as they travel, so that those which look equal are.
    rounded: list[float] = np.asarray(scores, np.float32).tolist()
    order = sorted(range(len(rounded)), key=lambda index: -rounded[index])
    return [Ranked(index, rounded[index], truncated[index]) for index in order]


async def _compare(
    compute: Awaitable[tuple[list[bytes], Timings]],
) -> tuple[list[float], Timings]:
    vectors, timings = await compute
    return await asyncio.to_thread(similarities, vectors[0], vectors[1:]), timings
