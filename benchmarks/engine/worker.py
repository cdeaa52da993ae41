"""One contestant in a process of its own: `python -m benchmarks.engine.worker NAME FOLDER`."""

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

from benchmarks.engine.jobs import Job, Times, from_wire

NEEDS = {"llamacpp": "llama_cpp", "openvino": "openvino_genai", "raw-openvino": "openvino_genai"}
"""Modules that contestants need beside what the product installs."""


class Contestant(Protocol):
    """Generates text."""

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs, greedily and past any end token, and notes when each token comes."""
        ...


def installed(name: str) -> bool:
    """Whether a contestant can run here."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


async def make(name: str, folder: Path) -> Contestant:
    """Loads a contestant; each imports its own libraries only."""
    if name == "torch":
        from benchmarks.engine.ours import OwnEngine
        from services.inference.engines.torch_loader import TorchLoader
        from services.inference.engines.torch_settings import TorchSettings

        return await OwnEngine.load(TorchLoader(TorchSettings(max_batch_size=32)), folder)
    if name == "static":
        from benchmarks.engine.huggingface import StaticBatch

        return StaticBatch(folder)
    if name == "continuous":
        from benchmarks.engine.huggingface import ContinuousBatching

        return ContinuousBatching(folder)
    if name == "openvino":
        from benchmarks.engine.ours import OwnEngine
        from services.inference.engines.openvino_loader import OpenVinoLoader
        from services.inference.engines.openvino_settings import OpenVinoSettings

        settings = OpenVinoSettings(folder.parent / "converted", max_batch_size=32)
        return await OwnEngine.load(OpenVinoLoader(settings), folder)
    if name == "raw-openvino":
        from benchmarks.engine.raw_openvino import RawOpenVino

        return RawOpenVino(folder.parent / "converted")
    if name == "llamacpp":
        from benchmarks.engine.llamacpp import LlamaCpp

        return LlamaCpp(folder)
    raise ValueError(f"There is no contestant {name}.")


def read_bandwidth() -> float:
    """Bytes a second that all cores together read from memory: the best of a few sums."""
    data = torch.ones(2**28, dtype=torch.float32)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        data.sum()
        best = max(best, data.nbytes / (time.perf_counter() - start))
    return best


async def _serve(name: str, folder: Path, out: Any) -> None:
    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    contestant = await make(name, folder)
    say({"ready": name})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = json.loads(line)
        if job.get("bandwidth"):
            say({"bytes_per_s": await asyncio.to_thread(read_bandwidth)})
            continue
        try:
            say({"times": await contestant.run(from_wire(job["jobs"]))})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Answers until standard input ends; libraries' own words go to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), out))
    os._exit(0)  # some contestants' threads don't end by themselves


if __name__ == "__main__":
    main()
