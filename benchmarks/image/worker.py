"""The pipeline itself in a process of its own: `python -m benchmarks.image.worker FOLDER DTYPE`."""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.image.jobs import CFG_SCALE, Job


class Plain:
    """Calls of a diffusers pipeline, as anybody writes them."""

    def __init__(self, folder: Path, dtype: str) -> None:
        from diffusers import AutoPipelineForText2Image, EulerDiscreteScheduler

        pipeline: Any = AutoPipelineForText2Image.from_pretrained(
            str(folder), torch_dtype=getattr(torch, dtype), local_files_only=True
        )
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline

    def run(self, asked: Job) -> None:
        """Draws a job, to PNG files in memory."""
        seeds = [asked.seed + number for number in range(len(asked.prompts))]
        if asked.together:
            self._draw(list(asked.prompts), seeds, asked)
            return
        for prompt, seed in zip(asked.prompts, seeds, strict=True):
            self._draw([prompt], [seed], asked)

    def _draw(self, prompts: list[str], seeds: list[int], asked: Job) -> None:
        pictures = self._pipeline(
            prompt=prompts,
            height=asked.side,
            width=asked.side,
            num_inference_steps=asked.steps,
            guidance_scale=CFG_SCALE,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        ).images
        for picture in pictures:
            picture.save(io.BytesIO(), "PNG")


def _serve(folder: Path, dtype: str, out: Any) -> None:
    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    plain = Plain(folder, dtype)
    say({"ready": dtype})
    for line in sys.stdin:
        try:
            start = time.perf_counter()
            plain.run(Job(**json.loads(line)))
            say({"seconds": time.perf_counter() - start})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Answers until standard input ends; libraries' own words go to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        _serve(Path(sys.argv[1]), sys.argv[2], out)
    os._exit(0)  # libraries' threads don't all end by themselves


if __name__ == "__main__":
    main()
