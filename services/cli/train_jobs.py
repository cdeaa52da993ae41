"""`penstock train list`, `status`, `logs`, …: how jobs stand, and what is asked of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from grpc import StatusCode
from penstock.training.v1 import job_pb2, training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.cli.documents import UNARY_TIMEOUT_S
from services.cli.failures import Failure
from services.cli.output import to_dict
from services.cli.paging import listed
from services.cli.session import Session, client_command
from services.cli.train_course import State, state_word, wish_word
from services.cli.train_words import (
    checkpoint_rows,
    event_text,
    job_facts,
    job_id,
    job_name,
    job_rows,
)

Answer = TypeVar("Answer")

STATES = {
    "validating": State.STATE_VALIDATING_FILES,
    "queued": State.STATE_QUEUED,
    "running": State.STATE_RUNNING,
    "paused": State.STATE_PAUSED,
    "succeeded": State.STATE_SUCCEEDED,
    "failed": State.STATE_FAILED,
    "cancelled": State.STATE_CANCELLED,
}
"""States, as they are written on the command line."""

_LIST_HINT = "`penstock train list` shows what there is."


@click.command("list")
@click.option("--state", "-s", type=click.Choice(list(STATES)), multiple=True, help="Only these.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True)
@client_command
def list_(session: Session, state: tuple[str, ...], limit: int) -> None:
    """List jobs, newest first."""

    async def run() -> tuple[list[job_pb2.Job], bool]:
        request = training_service_pb2.ListJobsRequest(states=[STATES[name] for name in state])
        async with session.files() as stub:
            return await listed(stub.ListJobs, request, lambda page: page.jobs, limit=limit)

    found, has_more = asyncio.run(run())
    if session.output.as_json:
        session.output.data([to_dict(job) for job in found])
    elif found:
        columns = ("job", "state", "base", "done", "loss", "created", "")
        session.output.table(columns, job_rows(found))
    else:
        session.output.note("No jobs. `penstock train start FILE --base MODEL` starts one.")
    _tell_more(session, limit, has_more=has_more)


@click.command()
@click.argument("job")
@client_command
def status(session: Session, job: str) -> None:
    """Show how a job stands."""
    request = training_service_pb2.GetJobRequest(name=job_name(job))
    found = _ask(session, lambda stub: stub.GetJob(request, timeout=UNARY_TIMEOUT_S))
    if session.output.as_json:
        session.output.data(to_dict(found))
    else:
        session.output.facts(job_facts(found))


@click.command()
@click.argument("job")
@client_command
def cancel(session: Session, job: str) -> None:
    """Cancel a job. What it has written as checkpoints stays."""
    request = training_service_pb2.CancelJobRequest(name=job_name(job))
    _say(session, _ask(session, lambda stub: stub.CancelJob(request, timeout=UNARY_TIMEOUT_S)))


@click.command()
@click.argument("job")
@client_command
def pause(session: Session, job: str) -> None:
    """Pause a job: it writes a checkpoint, and leaves its place to others."""
    request = training_service_pb2.PauseJobRequest(name=job_name(job))
    _say(session, _ask(session, lambda stub: stub.PauseJob(request, timeout=UNARY_TIMEOUT_S)))


@click.command()
@click.argument("job")
@client_command
def resume(session: Session, job: str) -> None:
    """Let a paused job go on from where it stopped."""
    request = training_service_pb2.ResumeJobRequest(name=job_name(job))
    _say(session, _ask(session, lambda stub: stub.ResumeJob(request, timeout=UNARY_TIMEOUT_S)))


@click.command()
@click.argument("job")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True)
@client_command
def logs(session: Session, job: str, limit: int) -> None:
    """Show what happened to a job, the last of it at the end."""

    async def run(stub: TrainingServiceStub) -> tuple[list[job_pb2.JobEvent], bool]:
        request = training_service_pb2.ListEventsRequest(parent=job_name(job))
        return await listed(stub.ListEvents, request, lambda page: page.events, limit=limit)

    found, has_more = _ask(session, run)
    found.reverse()
    if session.output.as_json:
        session.output.data([to_dict(event) for event in found])
    for event in found if not session.output.as_json else ():
        session.output.out.print(event_text(event), soft_wrap=True)
    _tell_more(session, limit, has_more=has_more)


@click.command()
@click.argument("job")
@client_command
def checkpoints(session: Session, job: str) -> None:
    """List the checkpoints of a job, newest first."""

    async def run(stub: TrainingServiceStub) -> list[job_pb2.Checkpoint]:
        request = training_service_pb2.ListCheckpointsRequest(parent=job_name(job))
        found, _ = await listed(stub.ListCheckpoints, request, lambda page: page.checkpoints)
        return found

    found = _ask(session, run)
    if session.output.as_json:
        session.output.data([to_dict(checkpoint) for checkpoint in found])
    elif found:
        columns = ("step", "epoch", "metrics", "size", "written", "model")
        session.output.table(columns, checkpoint_rows(found))
        session.output.note(
            "`penstock models deploy ID --source MODEL --base-model BASE` serves one."
        )
    else:
        session.output.note("No checkpoints.")


def _ask(session: Session, call: Callable[[TrainingServiceStub], Awaitable[Answer]]) -> Answer:
    """Asks the service of a job. Raises Failure."""

    async def run() -> Answer:
        async with session.files() as stub:
            return await call(stub)

    try:
        return asyncio.run(run())
    except Failure as failure:
        if failure.code == StatusCode.NOT_FOUND.name and not failure.hint:
            failure.hint = _LIST_HINT
        raise


def _say(session: Session, job: job_pb2.Job) -> None:
    """Says how a job stands after something was asked of it."""
    if session.output.as_json:
        session.output.data(to_dict(job))
    session.output.say(f"{job_id(job)} is {wish_word(job) or state_word(job.state)}.")


def _tell_more(session: Session, limit: int, *, has_more: bool) -> None:
    if has_more:
        session.output.note(f"There are more; --limit {10 * limit} shows them.")
