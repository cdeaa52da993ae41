"""A peer for the edge: the embedding service over real gRPC, scripted by the name of the model.

A vector is made of its input: `fill` of a text counts its letters. `waiting` never answers,
`fails-REASON-PARAM` fails naming a field, `cross` reranks as a cross-encoder does.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import grpc
import numpy as np
from penstock.embedding.v1 import embedding_pb2, embedding_service_pb2_grpc
from penstock.embedding.v1 import embedding_service_pb2 as service_pb2
from penstock.inference.v1 import usage_pb2

from tests.integration.gateway.edge_backend import CODES, failure

DIMENSIONS = 8


def vector(seed: str, dimensions: int = DIMENSIONS) -> np.ndarray[Any, np.dtype[np.float32]]:
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    return generator.normal(size=dimensions).astype("<f4")


class EmbeddingPeer(embedding_service_pb2_grpc.EmbeddingServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.live = 0

    async def Embed(self, request: service_pb2.EmbedRequest, context: Any) -> Any:
        await self._enter(request, context)
        response = service_pb2.EmbedResponse(model=request.model, fingerprint="fp_1")
        dimensions = request.dimensions or DIMENSIONS
        total = 0
        for index, item in enumerate(request.inputs):
            seed = item.text or " ".join(map(str, item.token_ids.ids))
            count = len(seed.split())
            total += count
            response.embeddings.add(
                index=index,
                dimensions=dimensions,
                values=vector(seed, dimensions).tobytes(),
                token_count=count,
            )
        response.usage.CopyFrom(usage_pb2.Usage(prompt_tokens=total, total_tokens=total))
        return response

    async def Rerank(self, request: service_pb2.RerankRequest, context: Any) -> Any:
        await self._enter(request, context)
        words = set(request.query.split())
        scores = [len(words & set(text.split())) / len(words) for text in request.documents]
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        response = service_pb2.RerankResponse(
            model=request.model or "first",
            method=embedding_pb2.RERANK_METHOD_CROSS_ENCODER
            if request.model == "cross"
            else embedding_pb2.RERANK_METHOD_EMBEDDING_SIMILARITY,
            usage=usage_pb2.Usage(prompt_tokens=11, total_tokens=11),
        )
        for index in order[: request.top_n or None]:
            response.results.add(index=index, relevance_score=scores[index])
        return response

    async def _enter(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if request.model.startswith("fails-"):
            _, reason, *param = request.model.split("-")
            status = failure(reason, param[0] if param else None)
            details = (("grpc-status-details-bin", status.SerializeToString()),)
            await context.abort(CODES[reason], status.message, details)
        if request.model == "waiting":
            self.live += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.live -= 1


def serve(peer: EmbeddingPeer, server: grpc.aio.Server) -> None:
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(peer, server)
