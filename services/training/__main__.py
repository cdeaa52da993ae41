"""Runs TrainingService: `python -m services.training [--port N] [--config FILE] [--data-dir D]`."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Coroutine, Iterable
from pathlib import Path
from typing import Any

from penstock.training.v1 import training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import add_TrainingServiceServicer_to_server
from prometheus_client.core import GaugeMetricFamily, Metric

from services.blobs import Blobs, S3Access, open_blobs
from services.rpc.channels import channel
from services.rpc.health import HealthRegistry
from services.rpc.process import authenticator_of, client_tls, limited, run_service, server_settings
from services.rpc.server import Registration, serve
from services.settings import (
    BlobSettings,
    Settings,
    SettingsError,
    TrainerSettings,
    TrainingSettings,
)
from services.training.base_models import BaseModels
from services.training.batch_wiring import batch_parts
from services.training.batches import BatchLimits
from services.training.clients import IDEMPOTENT, CatalogueClient
from services.training.file_servicer import Patience
from services.training.files import FileLimits, Files
from services.training.job_records import ENDED, JobState
from services.training.jobs import JobLimits, Jobs
from services.training.preparing import Preparer, WorkerPlan
from services.training.publishing import Publisher
from services.training.records import Purpose
from services.training.servicer import TrainingServicer
from services.training.stores import open_store
from services.training.stores.open import Store
from services.training.supervisor import Supervisor
from services.training.supervisor_running import Patience as WorkerPatience
from services.training.supervisor_running import RunningJobs
from services.training.sweeping import keep_swept
from services.training.trainer import Trainer
from services.training.trainers.local import LocalTrainer
from services.training.watching import Watches
from telemetry.registry import Watched

_SERVICE = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name
_STOP_WORKERS_S = 10.0
"""How long workers get to write a checkpoint while the service waits. They end even if it takes
longer."""
_RETRY_S = 5.0

_logger = logging.getLogger(__name__)


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    own = settings.services.training
    root = _root(settings.training)
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await open_store(own.database_url)
        except ValueError as error:
            raise SettingsError(f"[services.training] database_url: {error}") from error
        stack.push_async_callback(store.close)
        blobs = _blobs(settings.blobs)
        stack.push_async_callback(blobs.close)
        files = Files(store.files, blobs, _limits(own))
        stack.push_async_callback(files.close)
        results = Files(store.files, blobs, _RESULTS)
        stack.push_async_callback(results.close)
        models = channel(
            settings.services.model.target,
            tls=client_tls(settings),
            token=settings.auth.service_token,
            idempotent=IDEMPOTENT,
        )
        stack.push_async_callback(models.close)
        bases = CatalogueClient(models, root)
        trainer = _trainer(settings.training)
        stack.push_async_callback(trainer.close)
        supervisor = _supervisor(settings.training, root, store, results, bases, trainer)
        watches = Watches(store.jobs)
        stack.push_async_callback(watches.close)
        jobs = Jobs(store.jobs, bases, _job_limits(settings.training), nudge=supervisor.nudge)
        batches = batch_parts(stack, store, blobs, _batch_limits(own))
        health = HealthRegistry()
        # Last in, first out: they end before what they work with.
        await stack.enter_async_context(_beside(_kept(supervisor)))
        await stack.enter_async_context(_beside(batches.keeper.run()))
        await stack.enter_async_context(
            _beside(
                keep_swept(
                    files, own.sweep_interval_s, tell=lambda well: health.set(_SERVICE, well)
                )
            )
        )
        stack.enter_context(Watched(lambda: _told(supervisor)))
        limits = await stack.enter_async_context(limited(settings))
        patience = Patience(own.upload_timeout_s, own.slow_reader_timeout_s)
        await serve(
            "training",
            server_settings(settings, "training"),
            [
                Registration(
                    add_TrainingServiceServicer_to_server,
                    TrainingServicer(files, jobs, watches, patience),
                ),
                *batches.registrations,
            ],
            authenticator=authenticator_of(settings),
            health=health,
            limits=limits.calls,
        )


def _told(supervisor: Supervisor) -> Iterable[Metric]:
    """What metrics say of jobs."""
    text = "Training jobs that have not ended, by state, in the process that runs them."
    family = GaugeMetricFamily("penstock_training_jobs", text, labels=["state"])
    counts = supervisor.counts()
    for state in JobState:
        if state not in ENDED:
            family.add_metric([state.value], counts[state])
    return (family,)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None, None]:
    """Does work beside the server, and ends it with that."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _kept(supervisor: Supervisor) -> None:
    """Runs jobs until cancelled. A failure, as of the folder's file system, is tried again."""
    while True:
        try:
            await supervisor.run()
        except Exception:
            _logger.exception("the training jobs can't be run")
        await asyncio.sleep(_RETRY_S)


def _root(settings: TrainerSettings) -> Path:
    root = settings.folder.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"[training] folder: {root} can't be made: {error.strerror}") from error
    return root


def _supervisor(
    settings: TrainerSettings,
    root: Path,
    store: Store,
    results: Files,
    bases: BaseModels,
    trainer: Trainer,
) -> Supervisor:
    local = settings.trainer == "local"
    plan = WorkerPlan(
        device=settings.device,
        threads=_threads(settings),
        nice=settings.worker_nice,
        memory_bytes=settings.memory_bytes,
        max_checkpoints=settings.max_checkpoints,
    )
    datasets = {name: one.path.absolute() for name, one in settings.datasets.items()}
    running = RunningJobs(
        root,
        store.jobs,
        trainer,
        Publisher(root, results, bases),
        WorkerPatience(
            max_restarts=settings.max_restarts,
            heartbeat_timeout_s=settings.heartbeat_timeout_s,
        ),
    )
    return Supervisor(
        root,
        store.jobs,
        Preparer(root, results, bases, datasets, plan),
        running,
        max_jobs=settings.max_jobs,
        stop_workers_s=_STOP_WORKERS_S if local and settings.stop_workers_on_exit else 0.0,
    )


def _threads(settings: TrainerSettings) -> int:
    """Returns how many CPU threads a worker gets."""
    if settings.worker_threads:
        return settings.worker_threads
    if settings.trainer == "ray":
        return max(1, int(settings.ray_cpus) // settings.ray_processes)
    cores = len(os.sched_getaffinity(0))
    return max(1, (cores - 1) // settings.max_jobs)


def _trainer(settings: TrainerSettings) -> Trainer:
    if settings.trainer == "local":
        return LocalTrainer()
    # Only those who have a cluster pay for what calls it.
    from services.training.trainers.ray_entrypoint import WorkerCommand
    from services.training.trainers.ray_jobs import RayCluster
    from services.training.trainers.ray_trainer import RayPatience, RayShare, RayTrainer

    try:
        cluster = RayCluster(settings.ray_address, settings.ray_token, settings.ray_ca_file)
    except ValueError as error:
        raise SettingsError(f"[training] ray_address: {error}") from error
    try:
        return RayTrainer(
            cluster,
            RayShare(settings.ray_cpus, settings.ray_gpus, settings.memory_bytes),
            WorkerCommand(python=settings.ray_python, processes=settings.ray_processes),
            RayPatience(quiet_s=settings.heartbeat_timeout_s),
        )
    except OSError as error:
        raise SettingsError(f"[training] ray_ca_file: {error.strerror or error}") from error


def _job_limits(settings: TrainerSettings) -> JobLimits:
    return JobLimits(
        organisation=settings.organisation,
        datasets=settings.datasets,
        max_queued_jobs=settings.max_queued_jobs,
    )


def _batch_limits(settings: TrainingSettings) -> BatchLimits:
    return BatchLimits(
        max_lines=settings.max_batch_lines,
        max_file_bytes=settings.max_batch_bytes,
        max_unended=settings.max_batches,
    )


def _blobs(settings: BlobSettings) -> Blobs:
    access = S3Access(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_access_key=settings.secret_access_key,
    )
    try:
        return open_blobs(settings.folder, settings.url, access)
    except ValueError as error:
        raise SettingsError(f"[blobs] {error}") from error


_RESULTS = FileLimits(purposes=frozenset({Purpose.FINE_TUNE_RESULTS}))
"""Files that jobs write, and callers can't."""


def _limits(settings: TrainingSettings) -> FileLimits:
    return FileLimits(
        max_file_bytes=settings.max_file_bytes,
        max_owner_bytes=settings.max_owner_bytes,
        purposes=frozenset(Purpose(purpose) for purpose in settings.file_purposes),
        types=settings.file_types,
        max_uploads=settings.max_uploads,
    )


if __name__ == "__main__":
    run_service("training", main)
