"""What a process tells of its queues."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from penstock.inference.v1 import queue_pb2 as pb

from services.serving.models import Served
from services.serving.registry import Registry
from telemetry.tally import Figures

S = TypeVar("S", bound=Served[Any])

_Worker = pb.QueueStatus.Worker


@dataclass(frozen=True, slots=True)
class Counts:
    """The queue of one model at one moment."""

    running: int
    waiting: int
    completed_24h: int
    current_job: str = ""
    """ID of the only request or job that runs; else empty."""
    kv_usage: float | None = None
    """Share of the attention memory that is held; None where there is none to speak of."""
    figures: Figures | None = None
    """What the engine's loop counted; None where it doesn't."""


def queue_status(
    registry: Registry[S], worker_type: str, count: Callable[[S], Counts]
) -> pb.QueueStatus:
    """Tells what waits and what runs on all models of a registry, and which are missing."""
    workers: list[_Worker] = []
    completed = 0
    for served in registry.visible().values():
        counts = count(served)
        completed += counts.completed_24h
        busy = counts.running or counts.waiting
        workers.append(
            _Worker(
                id=served.revision,
                type=worker_type,
                state=_Worker.STATE_BUSY if busy else _Worker.STATE_IDLE,
                current_job=counts.current_job,
                running_count=counts.running,
                waiting_count=counts.waiting,
                model=served.id,
            )
        )
    for known in registry.missing():
        workers.append(
            _Worker(
                id=f"models/{known.id}",
                type=worker_type,
                state=_Worker.STATE_OFFLINE if known.failed else _Worker.STATE_LOADING,
                model=known.id,
            )
        )
    waiting = sum(worker.waiting_count for worker in workers)
    return pb.QueueStatus(
        depth=waiting + sum(worker.running_count for worker in workers),
        pending=waiting,
        active_workers=sum(1 for worker in workers if worker.running_count),
        completed_24h=completed,
        workers=workers,
    )
