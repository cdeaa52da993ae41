"""`penstock train`: starts training jobs, follows them, and says how they stand."""

import asyncio
from typing import Any

import click
from penstock.training.v1 import file_pb2, job_pb2, training_service_pb2
from rich.text import Text

from services.cli.documents import UNARY_TIMEOUT_S
from services.cli.failures import Failure
from services.cli.files import send
from services.cli.output import printable, to_dict
from services.cli.session import Session, client_command
from services.cli.train_course import State
from services.cli.train_follow import Following
from services.cli.train_jobs import (
    cancel,
    checkpoints,
    list_,
    logs,
    pause,
    resume,
    status,
)
from services.cli.train_request import (
    METHODS,
    PRIORITIES,
    TUNINGS,
    Examples,
    Wishes,
    examples_of,
    set_training,
    set_validation,
    to_job,
)
from services.cli.train_view import view_of
from services.cli.train_words import ended_text, job_failure, job_id

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@click.group()
def train() -> None:
    """Fine-tune models: start jobs, follow them, cancel them."""


@train.command()
@click.argument("examples", metavar="FILE|FILE-ID")
@click.option("--base", "-b", required=True, help="ID or alias of the model to start from.")
@click.option("--validation", metavar="FILE|FILE-ID", help="Examples to measure on.")
@click.option("--suffix", default="", help="Part of the result's ID, at most 64 characters.")
@click.option("--epochs", type=click.IntRange(1, 50), help="Times each example is seen.")
@click.option("--batch-size", type=click.IntRange(1, 256), help="Examples in one step.")
@click.option(
    "--learning-rate", type=click.FloatRange(0, 1, min_open=True), help="Peak learning rate."
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="sft",
    show_default=True,
    help="Learn to answer as the examples do, or to prefer the better of two answers.",
)
@click.option("--beta", type=click.FloatRange(0, 2), help="Of dpo: how close to the base it stays.")
@click.option(
    "--tuning",
    type=click.Choice(TUNINGS),
    default="lora",
    show_default=True,
    help="Train small matrices beside the weights, or all weights.",
)
@click.option("--rank", type=click.IntRange(1, 1024), help="Of lora: rank of the matrices.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Makes training repeatable.")
@click.option("--priority", type=click.Choice(list(PRIORITIES)), help="Among waiting jobs.")
@click.option(
    "--checkpoint-steps", type=click.IntRange(min=1), help="Between checkpoints. Default: an epoch."
)
@click.option("--watch", "-w", "watches", is_flag=True, help="Follow it until it has ended.")
@client_command
def start(
    session: Session, examples: str, validation: str | None, watches: bool, **wishes: Any
) -> None:
    """Start to train on examples: a JSON Lines file here, the ID of an uploaded file, or
    dataset:NAME for one that the service's configuration knows.

    What isn't said is chosen by the service. A file here is uploaded first.
    """
    job = to_job(Wishes(**wishes))
    training = examples_of(examples)
    measured = examples_of(validation) if validation is not None else None
    made = _started(session, job, training, measured)
    if session.output.as_json and not watches:
        session.output.data(to_dict(made))
    said = f"  {printable(made.base_model)}, {printable(training.text)}"
    session.output.say(Text.assemble((job_id(made), "bold"), said))
    if watches:
        names = {"training_file": training, "validation_file": measured}
        files = {field: str(named.path) for field, named in names.items() if named and named.path}
        _follow(session, made.name, is_known=True, files=files)
    else:
        session.output.note(f"`penstock train watch {job_id(made)}` follows it.")


@train.command()
@click.argument("job")
@client_command
def watch(session: Session, job: str) -> None:
    """Follow a job until it has ended, with everything that happened to it so far.

    The exit status tells whether it has succeeded. Ctrl-C ends the watching, and not the job.
    """
    _follow(session, job, is_known=False, files={})


for command in (list_, status, cancel, pause, resume, logs, checkpoints):
    train.add_command(command)


def _started(
    session: Session, job: job_pb2.Job, training: Examples, measured: Examples | None
) -> job_pb2.Job:
    """Starts a job, with what lies here uploaded; nothing of it stays when that fails."""
    uploaded: list[file_pb2.File] = []
    try:
        set_training(job, _there(session, training, uploaded))
        if measured is not None:
            set_validation(job, _there(session, measured, uploaded))
        return asyncio.run(_start(session, job))
    except Failure as failure:
        asyncio.run(_remove(session, uploaded))
        if failure.reason in {"MODEL_NOT_FOUND", "MODEL_NOT_READY"} and not failure.hint:
            failure.hint = "`penstock models list` shows what there is."
        raise


def _there(session: Session, examples: Examples, uploaded: list[file_pb2.File]) -> Examples:
    if examples.path is None:
        return examples
    header = training_service_pb2.FileHeader(
        filename=examples.path.name, purpose=file_pb2.FILE_PURPOSE_FINE_TUNE
    )
    made = send(session, examples.path, header)
    uploaded.append(made)
    return Examples(file=made.name)


async def _start(session: Session, job: job_pb2.Job) -> job_pb2.Job:
    request = training_service_pb2.StartJobRequest(job=job)
    async with session.files() as stub:
        return await stub.StartJob(request, timeout=UNARY_TIMEOUT_S)


async def _remove(session: Session, files: list[file_pb2.File]) -> None:
    for file in files:
        request = training_service_pb2.DeleteFileRequest(name=file.name)
        try:
            async with session.files() as stub:
                await stub.DeleteFile(request, timeout=UNARY_TIMEOUT_S)
        except Failure:  # the error that led here is the one to tell
            session.output.note(f"The uploaded file stays there: {file.name}.")


def _follow(session: Session, job: str, *, is_known: bool, files: dict[str, str]) -> None:
    """Follows a job, and ends as it did. `files` are those here, by the job's fields."""
    view = view_of(session.output)
    following = Following(session, job, view, is_known=is_known)
    try:
        ended = asyncio.run(following.run())
    except KeyboardInterrupt:
        view.close()
        session.output.note(f"Stopped watching. {following.way_back}")
        raise SystemExit(INTERRUPTED) from None
    finally:
        view.close()
    if ended.state != State.STATE_SUCCEEDED:
        raise job_failure(ended, files.get(ended.error.param, ""))
    model = printable(ended.fine_tuned_model)
    if not session.output.as_json:
        said = Text.assemble((model, "bold"), (f"  {ended_text(ended)}", "dim"))
        said.append(f"\nTry it: penstock chat --model {model}")
        session.output.out.print(said, soft_wrap=True)  # what is copied must be whole
