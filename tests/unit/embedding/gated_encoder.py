"""An encoder that computes a batch when it is told to, and remembers what it computed."""

import asyncio
from collections.abc import Sequence

from services.embedding.engine import Tokens
from services.embedding.engines.echo_engine import EchoEncoder, EchoSettings


class GatedEncoder(EchoEncoder):
    """The echo engine behind a gate: each batch waits for `release` or `fail`."""

    def __init__(self, settings: EchoSettings | None = None, *, scores_pairs: bool = False) -> None:
        super().__init__(settings or EchoSettings(), scores_pairs=scores_pairs)
        self.batches: list[list[Tokens]] = []
        self.running: asyncio.Future[None] | None = None

    async def encode(self, batch: Sequence[Tokens], *, normalize: bool) -> list[bytes]:
        await self._gate(batch)
        return await super().encode(batch, normalize=normalize)

    async def score(self, batch: Sequence[Tokens]) -> list[float]:
        await self._gate(batch)
        return await super().score(batch)

    async def _gate(self, batch: Sequence[Tokens]) -> None:
        assert self.running is None, "one batch runs at a time"
        self.batches.append(list(batch))
        self.running = asyncio.get_running_loop().create_future()
        try:
            await self.running
        finally:
            self.running = None

    def release(self, error: Exception | None = None) -> None:
        """Lets the batch that runs come to its end, or fail."""
        assert self.running is not None
        if error is None:
            self.running.set_result(None)
        else:
            self.running.set_exception(error)


async def settle() -> None:
    """Lets everything happen that can without a batch coming to its end."""
    for _ in range(20):
        await asyncio.sleep(0)
