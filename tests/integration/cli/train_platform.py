"""A real TrainingService whose jobs nobody runs, beside a real ModelService.

python -m tests.integration.cli.train_platform FOLDER: prints its address; then takes a line of JSON
on stdin for each thing that is to happen to a job, as the supervisor would have it, and answers
with an empty line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from services.training.job_names import new_checkpoint_id
from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    Job,
    JobError,
    JobState,
    Level,
    MetricsReport,
    NewEvent,
    StateChange,
)
from services.training.jobs import JobLimits
from tests.integration.training.file_platform import platform
from tests.integration.training.job_platform import catalogue


def changed(job: Job, wish: dict[str, Any]) -> Any:
    """Applies a wish: `state`, `facts`, `metrics` or `checkpoint`."""
    facts = dict(wish.get("facts", {}))
    if "error" in facts:
        facts["error"] = JobError(**facts["error"])
    for name in ("start_time", "end_time"):
        if name in facts:
            facts[name] = datetime.fromisoformat(facts[name])
    told: list[NewEvent] = []
    written: list[Checkpoint] = []
    if "state" in wish:
        state = JobState(wish["state"])
        facts["state"] = state
        told.append(NewEvent(Level.INFO, f"Now {state}.", StateChange(job.state, state)))
    if "metrics" in wish:
        report = MetricsReport(**wish["metrics"])
        facts |= {"step": report.step, "epoch": report.epoch, "metrics": report.metrics}
        told.append(NewEvent(Level.INFO, "Measured.", report))
    if "checkpoint" in wish:
        step = wish["checkpoint"]
        model = f"{job.model_id}:ckpt-step-{step}"
        id_ = new_checkpoint_id()
        written.append(Checkpoint(id_, job.id, job.create_time, step, 0.5, {}, model, 4096))
        told.append(NewEvent(Level.INFO, f"Checkpoint at {step}.", CheckpointWritten(id_)))
    return replace(job, **facts), told, written


async def main(folder: Path) -> None:
    async with catalogue(folder) as models:
        limits = JobLimits(datasets={"hours": ""})
        async with platform(folder, catalogue=models, job_limits=limits) as service:
            print(json.dumps({"address": service.server.address}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                wish = json.loads(line)
                await service.store.jobs.change(
                    wish["job"], None, lambda job, wish=wish: changed(job, wish)
                )
                print(flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
