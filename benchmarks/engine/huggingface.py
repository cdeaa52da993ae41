"""transformers: `generate` in static batches, and its own continuous batching."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation import StoppingCriteriaList

from benchmarks.engine.arrivals import Arrivals
from benchmarks.engine.jobs import Job, Times
from benchmarks.engine.number_type import DTYPE


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPE).eval()


class StaticBatch:
    """`generate`: who has come when a batch starts is in it, and the others wait for its end."""

    def __init__(self, folder: Path) -> None:
        self._model = _load(folder)

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs, batch after batch."""
        return await asyncio.to_thread(self._run, jobs)

    def _run(self, jobs: Sequence[Job]) -> Times:
        arrivals = Arrivals(jobs)
        times: Times = [[] for _ in jobs]
        while arrivals:
            batch = arrivals.take(len(jobs), wait=True)
            steps = self._generate([jobs[index] for index in batch], arrivals)
            for index in batch:
                times[index] = steps[: jobs[index].tokens]
        return times

    @torch.inference_mode()
    def _generate(self, jobs: Sequence[Job], arrivals: Arrivals) -> list[float]:
        """When each token came, of all of them at once."""
        width = max(len(job.prompt) for job in jobs)
        pads = [width - len(job.prompt) for job in jobs]
        prompts = torch.tensor([[0] * p + job.prompt for p, job in zip(pads, jobs, strict=True)])
        steps: list[float] = []

        def note(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            steps.append(arrivals.now())
            return torch.zeros(len(ids), dtype=torch.bool)

        new = max(job.tokens for job in jobs)
        self._model.generate(
            prompts,
            attention_mask=(torch.arange(width) >= torch.tensor(pads)[:, None]).long(),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([note]),
        )
        return steps


class ContinuousBatching:
    """`ContinuousBatchingManager`, fed request by request."""

    def __init__(self, folder: Path) -> None:
        model = _load(folder)
        config = GenerationConfig(max_new_tokens=512, do_sample=False, eos_token_id=-1)
        # Memory for what the scenarios hold at most.
        blocks = ContinuousBatchingConfig(num_blocks=256, max_batch_tokens=2048)
        self._manager = model.init_continuous_batching(
            generation_config=config, continuous_batching_config=blocks
        )
        self._manager.start()

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs and takes the times that the manager notes."""
        return await asyncio.to_thread(self._run, jobs)

    def _run(self, jobs: Sequence[Job]) -> Times:
        start = time.perf_counter()
        ids: list[str] = []
        for job in jobs:
            time.sleep(max(0.0, start + job.at_s - time.perf_counter()))
            ids.append(
                self._manager.add_request(
                    job.prompt, max_new_tokens=job.tokens, record_timestamps=True
                )
            )
        times: dict[str, list[float]] = {}
        while len(times) < len(ids):
            output = self._manager.get_result(timeout=120)
            if output is None or output.error:
                raise RuntimeError(output.error if output else "no result within 120 s")
            if output.is_finished():
                times[output.request_id] = [at - start for at in output.timestamps]
        return [times[each] for each in ids]
