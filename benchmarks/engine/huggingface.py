"""transformers: `generate` in static batches, and its own continuous batching."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation import StoppingCriteriaList

from benchmarks.engine.jobs import Job, Times


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()


class StaticBatch:
    """`generate`: all start together, all end together."""

    def __init__(self, folder: Path) -> None:
        self._model = _load(folder)

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs of one length."""
        return await asyncio.to_thread(self._run, jobs)

    @torch.inference_mode()
    def _run(self, jobs: Sequence[Job]) -> Times:
        prompts = torch.tensor([job.prompt for job in jobs])
        steps: list[float] = []
        start = time.perf_counter()

        def note(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            steps.append(time.perf_counter() - start)
            return torch.zeros(len(ids), dtype=torch.bool)

        new = jobs[0].tokens
        self._model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([note]),
        )
        return [steps for _ in jobs]


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
