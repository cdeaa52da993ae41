"""`penstock usage`: what requests used."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.access.v1 import usage_pb2, usage_service_pb2
from penstock.access.v1.usage_service_pb2_grpc import UsageServiceStub

from services.cli.failures import UsageFailure
from services.cli.session import Session, client_command
from services.cli.usage_view import (
    RECORD_COLUMNS,
    CsvTable,
    record_dict,
    show_records,
    show_totals,
    total_columns,
    total_dict,
)

Group = usage_service_pb2.SumUsageRequest
GROUPS = {
    "principal": Group.GROUP_BY_PRINCIPAL,
    "model": Group.GROUP_BY_MODEL,
    "day": Group.GROUP_BY_DAY,
    "month": Group.GROUP_BY_MONTH,
    "dialect": Group.GROUP_BY_DIALECT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMEOUT_S = 60.0
_PAGE_SIZE = 10_000
_SHOWN = 100
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group()
def usage() -> None:
    """Show what requests used: who, which model, how many tokens and images.

    Without the role admin, your own requests are shown. Times are in UTC.
    """


def _filters(function: Decorated) -> Decorated:
    """Adds the options that say which records are meant."""
    for option in (
        click.option(
            "--until",
            default="",
            metavar="WHEN",
            help="Begun before this time; written as for --since.",
        ),
        click.option(
            "--since",
            default="",
            metavar="WHEN",
            help="Begun at this time or later: a date, a time, or a span back from now as 12h, 7d, "
            "4w.",
        ),
        click.option("--request-id", default="", metavar="ID", help="With this x-request-id."),
        click.option("--dialect", default="", help="That came in this dialect, such as openai."),
        click.option("--model", default="", help="Of this model, by its ID."),
        click.option("--principal", default="", metavar="ID", help="Of this key or user."),
        click.option("--csv", "as_csv", is_flag=True, help="CSV with a header, all of it."),
    ):
        function = option(function)
    return function


@usage.command("list")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=1),
    help=f"Most records. Default: {_SHOWN}; with --csv, all.",
)
@_filters
@client_command
def list_(session: Session, limit: int | None, as_csv: bool, **wanted: str) -> None:
    """List records, newest first."""
    _check(session, as_csv)
    request = usage_service_pb2.ListUsageRequest(filter=_filter(wanted))
    asyncio.run(_export(session, request, limit) if as_csv else _list(session, request, limit))


@usage.command("sum")
@click.option(
    "--by",
    "groups",
    type=click.Choice(list(GROUPS)),
    multiple=True,
    help="One sum for each; may be given again.",
)
@_filters
@client_command
def sum_(session: Session, groups: tuple[str, ...], as_csv: bool, **wanted: str) -> None:
    """Sum up records, by principal, model, day, month or dialect."""
    _check(session, as_csv)
    groups = tuple(dict.fromkeys(groups))
    request = usage_service_pb2.SumUsageRequest(
        filter=_filter(wanted), group_by=[GROUPS[group] for group in groups]
    )

    async def run() -> list[usage_pb2.UsageTotal]:
        async with _ledger(session) as stub:
            return list((await stub.SumUsage(request, timeout=_TIMEOUT_S)).totals)

    totals = asyncio.run(run())
    if as_csv:
        CsvTable(total_columns(groups)).write(total_dict(total, groups) for total in totals)
    elif session.output.as_json:
        session.output.data([total_dict(total, groups) for total in totals])
    elif totals:
        show_totals(session.output, totals, groups)
    else:
        session.output.note("No request was recorded.")


async def _list(
    session: Session, request: usage_service_pb2.ListUsageRequest, limit: int | None
) -> None:
    found: list[usage_pb2.UsageRecord] = []
    limit = limit or _SHOWN
    has_more = False
    async for page, more in _pages(session, request, limit):
        found += page
        has_more = more
    if session.output.as_json:
        session.output.data([record_dict(record) for record in found])
    elif found:
        show_records(session.output, found)
    else:
        session.output.note("No request was recorded.")
    if has_more:
        session.output.note(f"There are more; --limit {10 * limit} shows them, or --csv all.")


async def _export(
    session: Session, request: usage_service_pb2.ListUsageRequest, limit: int | None
) -> None:
    table = CsvTable(RECORD_COLUMNS)
    async for page, _ in _pages(session, request, limit):
        table.write(map(record_dict, page))


async def _pages(
    session: Session, request: usage_service_pb2.ListUsageRequest, limit: int | None
) -> AsyncGenerator[tuple[list[usage_pb2.UsageRecord], bool], None]:
    """Yields pages, and whether there is more behind each; so many records in all."""
    left = limit
    async with _ledger(session) as stub:
        while True:
            request.page_size = _PAGE_SIZE if left is None else min(_PAGE_SIZE, left)
            page = await stub.ListUsage(request, timeout=_TIMEOUT_S)
            yield list(page.records), bool(page.next_page_token)
            left = None if left is None else left - len(page.records)
            if left == 0 or not page.next_page_token:
                return
            request.page_token = page.next_page_token


@asynccontextmanager
async def _ledger(session: Session) -> AsyncGenerator[UsageServiceStub, None]:
    """Opens the ledger, which is where the catalogue is; errors within become Failures."""
    with session.explained(session.model):
        async with session.channel(session.model) as opened:
            yield UsageServiceStub(opened)


def _check(session: Session, as_csv: bool) -> None:
    if as_csv and session.output.as_json:
        raise UsageFailure("Standard output can't be both CSV and JSON: choose one.", field="csv")


def _filter(wanted: dict[str, str]) -> usage_service_pb2.UsageFilter:
    made = usage_service_pb2.UsageFilter(
        principal=wanted["principal"],
        model=wanted["model"],
        dialect=wanted["dialect"],
        request_id=wanted["request_id"],
    )
    for name, field in (("since", made.start_time), ("until", made.end_time)):
        if wanted[name]:
            moment = Timestamp()
            moment.FromDatetime(parse_moment(wanted[name], name))
            field.CopyFrom(moment)
    return made


def parse_moment(text: str, field: str) -> datetime:
    """Parses a date, a time (of UTC where it names no zone) or a span back from now. Raises
    UsageFailure for anything else."""
    text = text.strip()
    if span := re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text):
        ago = timedelta(**{_UNITS[span[2]]: int(span[1])})
        return max(datetime.now(UTC) - ago, _EPOCH)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageFailure(
            f"{text!r} is not a time.",
            hint="Write a date as 2026-01-31, a time as 2026-01-31T12:00Z, or a span as 12h, 7d.",
            field=field,
        ) from None
