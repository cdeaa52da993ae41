"""Writes documents until it is killed: `python -m tests.conformance.retrieval.writer URL UID`."""

from __future__ import annotations

import asyncio
import random
import sys

from services.retrieval.stores import open_store
from tests.conformance.retrieval.records_made import document


class _Settings:
    index_cache_bytes = 0


async def write(url: str, uid: str) -> None:
    store = await open_store(url, _Settings())
    for turn in range(1_000_000):
        ids = [f"d{random.randrange(60)}" for _ in range(30)]
        news = [
            document(id, [f"turn{turn} chunk{at}" for at in range(random.randrange(1, 6))])
            for id in dict.fromkeys(ids)
        ]
        await store.put_documents(uid, news)
        await store.delete_documents(uid, ids=[f"d{random.randrange(60)}" for _ in range(5)])
        print(turn, flush=True)


if __name__ == "__main__":
    asyncio.run(write(*sys.argv[1:]))
