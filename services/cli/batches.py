"""`penstock batches`: many requests in a file, answered when there is room for them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import click
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.training.v1 import batch_pb2, batch_service_pb2, file_pb2, training_service_pb2
from penstock.training.v1.batch_service_pb2_grpc import BatchServiceStub
from rich.text import Text

from services.cli.documents import UNARY_TIMEOUT_S
from services.cli.failures import UsageFailure
from services.cli.files import file_id, file_name, send, span_seconds
from services.cli.output import printable, to_dict
from services.cli.paging import listed
from services.cli.session import Session, client_command

_BATCHES = "batches/"
_FILE = "file-"
_LONGEST_LINE = 16 * 1024 * 1024
_DEFAULT = "/v1/chat/completions"
_STATES = {
    batch_pb2.Batch.STATE_VALIDATING: ("validating", ""),
    batch_pb2.Batch.STATE_FAILED: ("failed", "red"),
    batch_pb2.Batch.STATE_IN_PROGRESS: ("in progress", "cyan"),
    batch_pb2.Batch.STATE_FINALIZING: ("finalizing", "cyan"),
    batch_pb2.Batch.STATE_COMPLETED: ("completed", "green"),
    batch_pb2.Batch.STATE_EXPIRED: ("expired", "yellow"),
    batch_pb2.Batch.STATE_CANCELLING: ("cancelling", "yellow"),
    batch_pb2.Batch.STATE_CANCELLED: ("cancelled", "dim"),
}


@click.group()
def batches() -> None:
    """Run many requests at low priority: create, list, show and cancel batches."""


@batches.command()
@click.argument("file")
@click.option("--endpoint", help=f"Default: the url of the file's first line, else {_DEFAULT}.")
@click.option("--window", metavar="SPAN", default="24h", show_default=True, help="1h to 30d.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="May be given again.")
@client_command
def create(
    session: Session, file: str, endpoint: str | None, window: str, label: tuple[str, ...]
) -> None:
    """Make a batch of a file of JSON lines: a path here, or the ID of one that was uploaded."""
    batch = batch_pb2.Batch(metadata=_labels(label))
    batch.completion_window.seconds = span_seconds(window, "--window")
    path = Path(file)
    if file.startswith(_FILE) and not path.exists():
        batch.input_file = file_name(file)
        batch.endpoint = endpoint or _DEFAULT
    else:
        batch.endpoint = endpoint or _first_url(path)
        header = training_service_pb2.FileHeader(
            filename=path.name, purpose=file_pb2.FILE_PURPOSE_BATCH
        )
        batch.input_file = send(session, path, header).name

    async def run() -> batch_pb2.Batch:
        request = batch_service_pb2.CreateBatchRequest(batch=batch)
        async with _opened(session) as stub:
            return await stub.CreateBatch(request, timeout=UNARY_TIMEOUT_S)

    made = asyncio.run(run())
    if session.output.as_json:
        session.output.data(to_dict(made))
    said = f"  `penstock batches show {batch_id(made)}` tells how it stands."
    session.output.say(Text.assemble((batch_id(made), "bold"), said))


@batches.command("list")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True)
@client_command
def list_(session: Session, limit: int) -> None:
    """List batches, newest first."""
    found, has_more = asyncio.run(_list(session, limit))
    if session.output.as_json:
        session.output.data([to_dict(batch) for batch in found])
    elif found:
        columns = ("batch", "state", "done", "failed", "endpoint", "created")
        session.output.table(columns, batch_rows(found))
    else:
        session.output.note("No batches. `penstock batches create PATH` makes one.")
    if has_more:
        session.output.note(f"There are more; --limit {10 * limit} shows them.")


@batches.command()
@click.argument("batch")
@client_command
def show(session: Session, batch: str) -> None:
    """Show a batch, its errors and its files."""

    async def run() -> batch_pb2.Batch:
        request = batch_service_pb2.GetBatchRequest(name=batch_name(batch))
        async with _opened(session) as stub:
            return await stub.GetBatch(request, timeout=UNARY_TIMEOUT_S)

    _show(session, asyncio.run(run()))


@batches.command()
@click.argument("batch")
@client_command
def cancel(session: Session, batch: str) -> None:
    """Cancel a batch. What has run is in its output file."""

    async def run() -> batch_pb2.Batch:
        request = batch_service_pb2.CancelBatchRequest(name=batch_name(batch))
        async with _opened(session) as stub:
            return await stub.CancelBatch(request, timeout=UNARY_TIMEOUT_S)

    _show(session, asyncio.run(run()))


def batch_name(id_: str) -> str:
    """Returns the resource name of a batch, of its ID or its name."""
    return _BATCHES + id_.removeprefix(_BATCHES)


def batch_id(batch: batch_pb2.Batch) -> str:
    """Returns the ID of a batch."""
    return batch.name.removeprefix(_BATCHES)


def batch_rows(found: Iterable[batch_pb2.Batch]) -> Iterator[tuple[str | Text, ...]]:
    """Returns one row per batch."""
    for batch in found:
        counts = batch.counts
        yield (
            Text(printable(batch_id(batch)), style="bold"),
            _state(batch),
            f"{counts.completed_count + counts.failed_count:,} of {counts.total_count:,}",
            f"{counts.failed_count:,}",
            printable(batch.endpoint),
            _time_text(batch.create_time),
        )


def batch_facts(batch: batch_pb2.Batch) -> dict[str, str | Text]:
    """Returns everything about one batch."""
    counts = batch.counts
    facts: dict[str, str | Text] = {
        "batch": printable(batch_id(batch)),
        "state": _state(batch),
        "endpoint": printable(batch.endpoint),
        "requests": f"{counts.total_count:,}: {counts.completed_count:,} answered, "
        f"{counts.failed_count:,} failed",
        "input": file_id(file_pb2.File(name=batch.input_file)),
        "output": file_id(file_pb2.File(name=batch.output_file)),
        "errors": file_id(file_pb2.File(name=batch.error_file)),
        "labels": printable(", ".join(f"{k}={v}" for k, v in sorted(batch.metadata.items()))),
        "owner": printable(batch.owner),
        "created": _time_text(batch.create_time),
        "expires": _time_text(batch.expire_time),
    }
    for number, error in enumerate(batch.errors):
        place = f"line {error.line}: " if error.HasField("line") else ""
        facts[f"error {number + 1}"] = printable(f"{place}{error.message} ({error.code})")
    return facts


def _show(session: Session, batch: batch_pb2.Batch) -> None:
    if session.output.as_json:
        session.output.data(to_dict(batch))
    else:
        session.output.facts(batch_facts(batch))


async def _list(session: Session, limit: int) -> tuple[list[batch_pb2.Batch], bool]:
    request = batch_service_pb2.ListBatchesRequest()
    async with _opened(session) as stub:
        return await listed(stub.ListBatches, request, lambda page: page.batches, limit=limit)


@asynccontextmanager
async def _opened(session: Session) -> AsyncGenerator[BatchServiceStub, None]:
    with session.explained(session.training):
        async with session.channel(session.training) as opened:
            yield BatchServiceStub(opened)


def _first_url(path: Path) -> str:
    """Returns where the first line of a file wants to go."""
    try:
        with path.open("rb") as file:
            line: Any = json.loads(file.readline(_LONGEST_LINE) or b"null")
    except OSError as error:
        raise UsageFailure(f"{path} can't be read: {error.strerror}.") from error
    except ValueError:
        return _DEFAULT  # what is wrong with the file, the service tells
    url: object = cast("dict[str, object]", line).get("url") if isinstance(line, dict) else None
    return url if isinstance(url, str) and url else _DEFAULT


def _labels(given: Iterable[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageFailure("--label must be KEY=VALUE, for example --label team=search.")
    return {name: value for name, _, value in pairs}


def _state(batch: batch_pb2.Batch) -> Text:
    word, style = _STATES.get(batch.state, ("", ""))
    return Text(word, style=style)


def _time_text(moment: Timestamp) -> str:
    return f"{moment.ToDatetime():%Y-%m-%d %H:%M} UTC" if moment.seconds else ""
