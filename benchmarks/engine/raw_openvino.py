"""OpenVINO GenAI's own pipeline over the model that our engine converted."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.engine.arrivals import Arrivals
from benchmarks.engine.jobs import Job, Times
from benchmarks.engine.number_type import NAME

genai: Any = openvino_genai
_CONTEXT = 2048
_CALLERS = 32
_BLOCK = 32
_PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}


class RawOpenVino:
    """`ContinuousBatchingPipeline`, stepped in a loop."""

    def __init__(self, converted: Path) -> None:
        found = sorted(converted.rglob("openvino_model.xml"))
        if not found:
            raise RuntimeError("our OpenVINO engine converts the model: run it in the same run")
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = _CALLERS * _CONTEXT // _BLOCK + 1
        scheduler.cache_size = 0
        scheduler.max_num_batched_tokens = 512
        scheduler.max_num_seqs = _CALLERS
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[NAME],
            "KV_CACHE_PRECISION": _PRECISIONS[NAME],
            "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        }
        folder = str(found[0].parent)
        self._pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", options)

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs as they come."""
        return self._run(jobs)

    def _run(self, jobs: Sequence[Job]) -> Times:
        arrivals = Arrivals(jobs)
        handles: dict[int, Any] = {}
        times: Times = [[] for _ in jobs]
        while arrivals or self._pipeline.has_non_finished_requests():
            idle = not self._pipeline.has_non_finished_requests()
            for index in arrivals.take(len(jobs), wait=idle):
                handles[index] = self._add(index, jobs[index])
            self._pipeline.step()
            now = arrivals.now()
            for index, handle in handles.items():
                while handle.can_read():
                    [output] = handle.read().values()
                    times[index].extend([now] * len(output.generated_ids))
        return times

    def _add(self, index: int, job: Job) -> Any:
        config = genai.GenerationConfig()
        config.apply_chat_template = False
        config.max_new_tokens = job.tokens
        config.set_eos_token_id(0)
        config.ignore_eos = True
        prompt = openvino.Tensor(np.array([job.prompt], dtype=np.int64))
        return self._pipeline.add_request(index, prompt, config)
