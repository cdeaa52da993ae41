"""Embedding: from a request to vectors.

request → model → dimensions and prefix checked → texts tokenised, cut or refused → batches
        → vectors, shortened where that is asked for
"""

import asyncio

from services.embedding.accounts import Counted, accounted
from services.embedding.batching import Order, Progress, until
from services.embedding.plans import check_priority, plan_vectors, prefix_of, single_form
from services.embedding.preparing import Prepared, Preparer
from services.embedding.registry import Registry
from services.embedding.requests import Caller, EmbedAnswer, EmbedRequest, Truncation
from services.embedding.vectors import shortened
from services.errors import InvalidArgument
from services.metering import Meter, Unmetered

_NOBODY = Caller()


class Embedder:
    """Makes vectors with the models of a registry."""

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

    async def embed(self, request: EmbedRequest, caller: Caller = _NOBODY) -> EmbedAnswer:
        """Returns vectors. Cancelling the call takes out what isn't computed yet.

        Raises a `DomainError` when the request is refused or can't be answered in time.
        """
        check_priority(request.priority, caller)
        served = self._registry.resolve(request.model)
        if served.info.scores_pairs:
            raise InvalidArgument(
                f"The model `{request.model}` is of the type rerank: it makes no vectors.",
                field="model",
            )
        plan = plan_vectors(served, request.dimensions, request.normalize)
        prefix = prefix_of(served.info, request.task, request.prompt_name)
        form = single_form(served, prefix, request.truncation or self._truncation)
        order = Order(
            caller,
            request.priority,
            # Shortened vectors are scaled when they are short.
            normalize=plan.normalize and not plan.shortens,
            request_id=request.request_id,
        )
        prepared, progress = Prepared(), Progress()
        with served.serving() as batcher:
            async with until(caller.deadline, progress):
                await self._preparer.add(prepared, request.inputs, form, "inputs")
                counted = Counted(served.id, request.user, prepared.total)
                async with accounted(self._meter, caller, counted, progress):
                    vectors, timings = await batcher.compute(prepared.inputs, order, progress)
                    if plan.shortens:
                        vectors = await asyncio.to_thread(
                            shortened, vectors, plan.dimensions, normalize=plan.normalize
                        )
        return EmbedAnswer(
            model=served.id,
            vectors=vectors,
            dimensions=plan.dimensions,
            token_counts=[len(tokens.ids) for tokens in prepared.inputs],
            truncated=prepared.truncated,
            fingerprint=served.fingerprint,
            timings=timings,
        )
