"""`penstock files`: files to train on, and those that training wrote."""

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio
from penstock.training.v1 import file_pb2, training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from services.cli.documents import UNARY_TIMEOUT_S, size_text
from services.cli.failures import UsageFailure
from services.cli.file_transfer import Sending, check_place, new_file, receive
from services.cli.output import printable, to_dict
from services.cli.paging import listed
from services.cli.session import Session, client_command

REFUSED = 1
PURPOSES = {
    "fine-tune": file_pb2.FILE_PURPOSE_FINE_TUNE,
    "batch": file_pb2.FILE_PURPOSE_BATCH,
    "user_data": file_pb2.FILE_PURPOSE_USER_DATA,
    "assistants": file_pb2.FILE_PURPOSE_ASSISTANTS,
    "vision": file_pb2.FILE_PURPOSE_VISION,
    "evals": file_pb2.FILE_PURPOSE_EVALS,
}
"""What an upload can be for."""
ALL_PURPOSES = PURPOSES | {
    "fine-tune-results": file_pb2.FILE_PURPOSE_FINE_TUNE_RESULTS,
    "batch_output": file_pb2.FILE_PURPOSE_BATCH_OUTPUT,
}
_WORDS = {value: word for word, value in ALL_PURPOSES.items()}
_STDOUT = "-"
_SPAN = re.compile(r"(\d{1,4})\s*(h|d)")
_SECONDS = {"h": 60 * 60, "d": 24 * 60 * 60}


@click.group()
def files() -> None:
    """Upload, list, download and remove files, for example to train on."""


@files.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--purpose", "-p", type=click.Choice(list(PURPOSES)), default="fine-tune", show_default=True
)
@click.option("--name", help="What it is called there. Default: the name of the file.")
@click.option("--expires", metavar="SPAN", help="Delete it after 1h to 30d. Default: never.")
@client_command
def upload(
    session: Session, path: Path, purpose: str, name: str | None, expires: str | None
) -> None:
    """Upload a file. What is kept is checked against what was sent."""
    header = training_service_pb2.FileHeader(filename=name or path.name, purpose=PURPOSES[purpose])
    if expires is not None:
        header.time_to_live.seconds = span_seconds(expires, "--expires")
    made = send(session, path, header)
    if session.output.as_json:
        session.output.data(to_dict(made))
    said = f"  {printable(made.filename)}, {size_text(made.size_bytes)}, for {purpose}"
    session.output.say(Text.assemble((file_id(made), "bold"), said))


@files.command("list")
@click.option("--purpose", "-p", type=click.Choice(list(ALL_PURPOSES)), help="Default: all.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=100, show_default=True)
@client_command
def list_(session: Session, purpose: str | None, limit: int) -> None:
    """List files, newest first."""

    async def run() -> tuple[list[file_pb2.File], bool]:
        async with session.files() as stub:
            return await _list(stub, purpose, limit)

    found, has_more = asyncio.run(run())
    if session.output.as_json:
        session.output.data([to_dict(file) for file in found])
    elif found:
        columns = ("file", "name", "purpose", "size", "uploaded", "expires")
        session.output.table(columns, file_rows(found))
    else:
        session.output.note("No files. `penstock files upload PATH` adds one.")
    if has_more:
        session.output.note(f"There are more; --limit {10 * limit} shows them.")


@files.command()
@click.argument("file")
@client_command
def get(session: Session, file: str) -> None:
    """Show what is known of a file."""
    found = asyncio.run(_get(session, file))
    if session.output.as_json:
        session.output.data(to_dict(found))
    else:
        session.output.facts(file_facts(found))


@files.command()
@click.argument("file")
@click.option("--output", "-o", metavar="FILE", help="Default: the file's own name; - is stdout.")
@click.option("--force", "-f", is_flag=True, help="Overwrite a file.")
@client_command
def download(session: Session, file: str, output: str | None, force: bool) -> None:
    """Download a file. It is there when all of it came, and is checked."""
    to_stdout = output == _STDOUT
    if to_stdout and session.output.as_json:
        raise UsageFailure("Standard output can't be both a file and JSON: name a file with -o.")
    if to_stdout and session.output.out.is_terminal:
        raise UsageFailure("A file might garble this terminal: name one with -o, or use a pipe.")
    if output and not to_stdout:
        check_place(Path(output), force=force)
    found = asyncio.run(_get(session, file))
    if to_stdout:
        _receive(session, found, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(output or Path(found.filename).name)
    check_place(path, force=force)
    with new_file(path, force=force) as into:
        _receive(session, found, into)
    if session.output.as_json:
        session.output.data(to_dict(found) | {"path": str(path)})
    session.output.say(f"{printable(str(path))}, {size_text(found.size_bytes)}")


@files.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@client_command
def remove(session: Session, files: tuple[str, ...], yes: bool) -> None:
    """Remove files. One that a running job needs is kept."""
    names = list(dict.fromkeys(file_name(file) for file in files))
    if not yes and not session.output.as_json:
        what = files[0] if len(names) == 1 else f"{len(names)} files"
        click.confirm(f"Remove {what}?", abort=True, err=True)

    async def run() -> int:
        async with session.files() as stub:
            return sum([await _remove(stub, name) for name in names])

    count = asyncio.run(run())
    missing = len(names) - count
    if session.output.as_json:
        session.output.data({"removed_count": count, "missing_count": missing})
    said = f", {missing:,} {'was' if missing == 1 else 'were'} not there" if missing else ""
    session.output.say(f"{count:,} {'is' if count == 1 else 'are'} removed{said}.")
    if missing:
        raise click.exceptions.Exit(REFUSED)


def send(session: Session, path: Path, header: training_service_pb2.FileHeader) -> file_pb2.File:
    """Uploads a file, with a progress bar. Raises Failure."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageFailure(f"{path} can't be read: {error.strerror}.") from error
    with file, _progress(session) as bars:
        size = path.stat().st_size if path.is_file() else None  # a pipe's is not known
        if size is not None:
            header.size_bytes = size
        bar = bars.add_task("uploading", total=size)

        async def run() -> file_pb2.File:
            async with session.files() as stub:
                progress = Sending(file, header, lambda moved: bars.update(bar, completed=moved))
                return await progress.run(stub)

        return asyncio.run(run())


def file_name(id_: str) -> str:
    """Returns the resource name of a file, of its ID or its name."""
    return f"files/{id_.removeprefix('files/')}"


def file_id(file: file_pb2.File) -> str:
    """Returns the ID of a file."""
    return file.name.removeprefix("files/")


def span_seconds(span: str, option: str) -> int:
    """Reads a span such as `12h` or `30d`. Raises `UsageFailure`."""
    match = _SPAN.fullmatch(span.strip().lower())
    if match is None:
        raise UsageFailure(f"{option} {span} is no span.", hint="Say 12h or 30d, for example.")
    return int(match[1]) * _SECONDS[match[2]]


def file_rows(found: Iterable[file_pb2.File]) -> Iterator[tuple[str | Text, ...]]:
    """Returns one row per file."""
    for file in found:
        yield (
            Text(printable(file_id(file)), style="bold"),
            printable(file.filename),
            _WORDS.get(file.purpose, ""),
            size_text(file.size_bytes),
            _time_text(file.create_time),
            _time_text(file.expire_time),
        )


def file_facts(file: file_pb2.File) -> dict[str, str | Text]:
    """Returns everything about one file."""
    return {
        "file": printable(file_id(file)),
        "name": printable(file.filename),
        "purpose": _WORDS.get(file.purpose, ""),
        "size": f"{size_text(file.size_bytes)} ({file.size_bytes:,} bytes)",
        "type": printable(file.mime_type),
        "uploaded": _time_text(file.create_time),
        "expires": _time_text(file.expire_time),
        "owner": printable(file.owner),
        "sha256": file.sha256,
    }


async def _list(
    stub: TrainingServiceStub, purpose: str | None, limit: int
) -> tuple[list[file_pb2.File], bool]:
    request = training_service_pb2.ListFilesRequest()
    if purpose is not None:
        request.purpose = ALL_PURPOSES[purpose]
    return await listed(stub.ListFiles, request, lambda page: page.files, limit=limit)


async def _get(session: Session, file: str) -> file_pb2.File:
    request = training_service_pb2.GetFileRequest(name=file_name(file))
    async with session.files() as stub:
        return await stub.GetFile(request, timeout=UNARY_TIMEOUT_S)


async def _remove(stub: TrainingServiceStub, name: str) -> bool:
    """Removes a file; tells whether it was there."""
    request = training_service_pb2.DeleteFileRequest(name=name)
    try:
        await stub.DeleteFile(request, timeout=UNARY_TIMEOUT_S)
    except aio.AioRpcError as error:
        if error.code() is not StatusCode.NOT_FOUND:
            raise
        return False
    return True


def _receive(session: Session, file: file_pb2.File, into: Any) -> None:
    with _progress(session) as bars:
        bar = bars.add_task("downloading", total=file.size_bytes)

        async def run() -> None:
            async with session.files() as stub:
                await receive(stub, file, into, lambda moved: bars.update(bar, completed=moved))

        asyncio.run(run())


def _progress(session: Session) -> Progress:
    return Progress(
        TextColumn("{task.description}", style="dim"),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=session.output.err,
        transient=True,
        disable=session.output.as_json or not session.output.err.is_terminal,
    )


def _time_text(moment: Timestamp) -> str:
    return f"{moment.ToDatetime():%Y-%m-%d %H:%M} UTC" if moment.seconds else ""
