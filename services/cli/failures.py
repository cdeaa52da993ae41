"""Errors as people read them: one clear line, the facts below it, and what to do next."""

import json
from dataclasses import dataclass
from typing import IO, Any

import click
import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from rich.console import Console
from rich.text import Text

from services.cli.output import printable

FAILURE = 1
USAGE = 2


class Failure(click.ClickException):
    """Ends a command with a message, without a traceback."""

    exit_code = FAILURE

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        reason: str = "",
        field: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code
        self.reason = reason
        self.field = field
        self.retry_after_s = retry_after_s
        self.as_json = False

    def to_dict(self) -> dict[str, Any]:
        """Returns what scripts get."""
        error: dict[str, Any] = {"message": self.message}
        for name in ("code", "reason", "field", "hint"):
            if value := getattr(self, name):
                error[name] = value
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return {"error": error}

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the error on stderr."""
        if self.as_json:
            click.echo(json.dumps(self.to_dict(), ensure_ascii=False), file=file, err=True)
            return
        console = Console(file=file, stderr=file is None, highlight=False)
        console.print(self.to_text(), soft_wrap=True)

    def to_text(self) -> Text:
        """Returns what people read."""
        text = Text.assemble(("Error: ", "bold red"), printable(self.message))
        facts = {"reason": self.reason, "field": self.field}
        if self.retry_after_s is not None:
            facts["retry"] = f"in {self.retry_after_s:g} s"
        for name, value in facts.items():
            if value:
                text.append(f"\n  {name:<7}", style="dim")
                text.append(printable(value))
        if self.hint:
            text.append(f"\n{self.hint}", style="cyan")
        return text


class UsageFailure(Failure):
    """Ends a command that was called wrongly, or in a place where it can't do what it is to."""

    exit_code = USAGE


@dataclass(frozen=True)
class Peer:
    """Who was called: for error messages."""

    name: str
    """Name of the service, for example `inference`."""
    address: str
    option: str
    """The option that names another address."""


def rich_status(error: aio.AioRpcError) -> status_pb2.Status | None:
    """Returns the google.rpc.Status that came with an error, if one did."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def explain(error: aio.AioRpcError, peer: Peer, key_hint: str = "") -> Failure:
    """Turns what a call ended with into words."""
    code = error.code()
    status = rich_status(error)
    failure = status_failure(status or status_pb2.Status())
    message = failure.message or error.details() or code.name
    hint = ""
    if not failure.reason and code == grpc.StatusCode.UNAVAILABLE:
        message = f"Can't reach the {peer.name} service at {peer.address}."
        hint = f"Start Penstock with `penstock serve`, or name another address with {peer.option}."
    elif not failure.reason and code == grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"The {peer.name} service at {peer.address} did not answer in time."
    elif code == grpc.StatusCode.UNAUTHENTICATED:
        hint = key_hint
    elif not failure.reason and code == grpc.StatusCode.UNIMPLEMENTED:
        message = f"What answers at {peer.address} is not Penstock's {peer.name} service."
        hint = f"Name its address with {peer.option}."
    return Failure(
        message,
        hint=hint,
        code=code.name,
        reason=failure.reason,
        field=failure.field,
        retry_after_s=failure.retry_after_s,
    )


def status_failure(status: status_pb2.Status) -> Failure:
    """Reads a google.rpc.Status with its details."""
    info = error_details_pb2.ErrorInfo()
    fields: list[str] = []
    retry_after_s: float | None = None
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request):
            fields = [violation.field for violation in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            detail.Unpack(info)
    return Failure(
        status.message,
        reason=info.reason,
        field=", ".join(filter(None, fields)),  # a rule about a whole message names none
        retry_after_s=retry_after_s,
    )
