"""What makes the parts of batches work together."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from penstock.training.internal.v1.batch_work_service_pb2_grpc import (
    add_BatchWorkServiceServicer_to_server,
)
from penstock.training.v1.batch_service_pb2_grpc import add_BatchServiceServicer_to_server

from services.blobs.port import Blobs
from services.rpc.server import Registration
from services.training.batch_keeper import BatchKeeper
from services.training.batch_servicer import BatchServicer, BatchWorkServicer
from services.training.batch_work import BatchWork
from services.training.batches import Batches, BatchLimits
from services.training.files import FileLimits, Files
from services.training.records import Purpose
from services.training.stores.open import Store

_MOST_BYTES = 1024 * 1024 * 1024 * 1024
"""Of a file of results: what it may have is what its requests were allowed to bring."""
_OUTPUTS = FileLimits(purposes=frozenset({Purpose.BATCH_OUTPUT}), max_file_bytes=_MOST_BYTES)
"""Files that batches write, and callers can't."""


@dataclass(frozen=True, slots=True)
class BatchParts:
    """What serves batches, and what works on them."""

    keeper: BatchKeeper
    registrations: list[Registration]


def batch_parts(
    stack: AsyncExitStack, store: Store, blobs: Blobs, limits: BatchLimits
) -> BatchParts:
    """Makes the parts; the stack lets go of them."""
    outputs = Files(store.files, blobs, _OUTPUTS)
    stack.push_async_callback(outputs.close)
    keeper = BatchKeeper(store.batches, outputs, blobs, max_lines=limits.max_lines)
    batches = Batches(store.batches, limits, nudge=keeper.nudge)
    work = BatchWork(store.batches, store.files, blobs, nudge=keeper.nudge)
    stack.push_async_callback(work.close)
    return BatchParts(
        keeper,
        [
            Registration(add_BatchServiceServicer_to_server, BatchServicer(batches)),
            Registration(add_BatchWorkServiceServicer_to_server, BatchWorkServicer(work)),
        ],
    )
