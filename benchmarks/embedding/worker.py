"""One contestant in a process of its own: `python -m benchmarks.embedding.worker NAME FOLDER`."""

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

NEEDS = {
    "sentence-float32": "sentence_transformers",
    "sentence-bfloat16": "sentence_transformers",
}
"""Modules that contestants need beside what the product installs."""


class Contestant(Protocol):
    """Embeds texts."""

    async def run(self, calls: Sequence[Sequence[str]]) -> None:
        """Answers calls that come at the same time."""
        ...


def installed(name: str) -> bool:
    """Whether a contestant can run here."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


class OwnEngine:
    """Our engine, through its port or through the batches of the service."""

    def __init__(self, encoder: Any, batcher: Any) -> None:
        self._encoder = encoder
        self._batcher = batcher

    @classmethod
    async def load(cls, folder: Path, dtype: str, *, batched: bool) -> "OwnEngine":
        """Loads the model."""
        from services.embedding.batching import Batcher
        from services.embedding.engine import EncoderSpec
        from services.embedding.engines.torch_loader import TorchLoader

        spec = EncoderSpec("bench", "1", folder, dtype=dtype)
        encoder = await TorchLoader().load(spec, lambda share: None)
        return cls(encoder, Batcher(encoder) if batched else None)

    async def run(self, calls: Sequence[Sequence[str]]) -> None:
        """Answers calls."""
        await asyncio.gather(*(self._one(call) for call in calls))

    async def _one(self, call: Sequence[str]) -> None:
        text = self._encoder.text
        room = self._encoder.info.context_length - text.overhead()
        ids = await asyncio.to_thread(text.encode, call)
        inputs = [text.single(each[:room]) for each in ids]
        if self._batcher is None:
            await self._encoder.encode(inputs, normalize=True)
        else:
            await self._batcher.compute(inputs)


class SentenceTransformers:
    """Its own `encode`, one call after another: it puts no callers together."""

    def __init__(self, folder: Path, dtype: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(
            str(folder), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)}
        )

    async def run(self, calls: Sequence[Sequence[str]]) -> None:
        """Answers calls."""
        await asyncio.to_thread(self._all, calls)

    def _all(self, calls: Sequence[Sequence[str]]) -> None:
        for call in calls:
            self._model.encode(list(call), show_progress_bar=False)


async def make(name: str, folder: Path) -> Contestant:
    """Loads a contestant."""
    kind, dtype = name.rsplit("-", 1)
    if kind == "sentence":
        return SentenceTransformers(folder, dtype)
    return await OwnEngine.load(folder, dtype, batched=kind == "batched")


def token_counts(folder: Path, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, special ones included, cut to the model's length."""
    from services.embedding.engines.hf_text import load_tokenizer
    from services.embedding.engines.sentence_files import read_sentence_files
    from services.weights.folder import ModelFolder

    text = load_tokenizer(ModelFolder(folder))
    most = read_sentence_files(folder).max_length
    return [min(most, len(ids) + text.overhead()) for ids in text.encode(texts)]


def matmul_peak(dtype: torch.dtype) -> float:
    """Floating-point operations a second of the best of a few large products."""
    first, second = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        first @ second
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


async def _answer(contestant: Contestant, folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    if "count" in job:
        return {"counts": token_counts(folder, job["count"])}
    if job.get("peak"):
        return {
            name: await asyncio.to_thread(matmul_peak, getattr(torch, name))
            for name in ("float32", "bfloat16")
        }
    times: list[float] = []
    for _ in range(job.get("repeat", 1)):
        start = time.perf_counter()
        await contestant.run(job["calls"])
        times.append(time.perf_counter() - start)
    return {"times": times}


async def _serve(name: str, folder: Path, out: Any) -> None:
    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    contestant = await make(name, folder)
    say({"ready": name})
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        try:
            say(await _answer(contestant, folder, json.loads(line)))
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Answers until standard input ends; libraries' own words go to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), out))
    os._exit(0)  # libraries' threads don't all end by themselves


if __name__ == "__main__":
    main()
