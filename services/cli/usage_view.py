"""How usage is shown: tables for people, CSV and JSON of the same columns for programs."""

import csv
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

from google.protobuf.duration_pb2 import Duration
from penstock.access.v1 import usage_pb2

from services.cli.output import Output, printable

RECORD_COLUMNS = (
    *("id", "start_time", "principal", "request_id", "model", "method", "dialect", "outcome"),
    *("prompt_tokens", "completion_tokens", "cached_tokens", "images"),
    *("queued_ms", "ran_ms", "user"),
)
"""Of a record, in CSV and JSON."""
SUMS = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "images")
"""Of a sum, behind what it is grouped by."""
_OUTCOMES = {
    usage_pb2.OUTCOME_OK: "ok",
    usage_pb2.OUTCOME_CANCELLED: "cancelled",
    usage_pb2.OUTCOME_DEADLINE_EXCEEDED: "deadline_exceeded",
    usage_pb2.OUTCOME_FAILED: "failed",
}
_PERIODS = ("day", "month")


def record_dict(record: usage_pb2.UsageRecord) -> dict[str, Any]:
    """A record, by its columns."""
    moment = record.start_time.ToDatetime(UTC)
    return {
        "id": record.id,
        "start_time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "principal": record.principal,
        "request_id": record.request_id,
        "model": record.model,
        "method": record.method,
        "dialect": record.dialect,
        "outcome": _OUTCOMES.get(record.outcome, "unknown"),
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "cached_tokens": record.cached_tokens,
        "images": record.images,
        "queued_ms": _ms(record.queued),
        "ran_ms": _ms(record.ran),
        "user": record.user,
    }


def total_columns(groups: Sequence[str]) -> tuple[str, ...]:
    """The columns of sums that are grouped so."""
    return (*groups, *SUMS)


def total_dict(total: usage_pb2.UsageTotal, groups: Sequence[str]) -> dict[str, Any]:
    """A sum, by its columns."""
    return {
        name: getattr(total, "period" if name in _PERIODS else name)
        for name in total_columns(groups)
    }


class CsvTable:
    """Writes CSV to stdout (RFC 4180, lines that end in LF), its header first."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Writes rows."""
        self._writer.writerows([row[name] for name in self._columns] for row in rows)
        sys.stdout.flush()


def show_records(output: Output, records: Sequence[usage_pb2.UsageRecord]) -> None:
    """Prints records as a table."""
    rows = [record_dict(record) for record in records]
    output.table(
        ("began", "principal", "model", "dialect", "outcome", "tokens", "images", "queued", "ran"),
        (
            (
                row["start_time"][:19].replace("T", " "),
                printable(row["principal"]),
                printable(row["model"]),
                row["dialect"],
                row["outcome"],
                f"{row['prompt_tokens']:,} + {row['completion_tokens']:,}",
                f"{row['images']:,}" if row["images"] else "",
                f"{row['queued_ms'] / 1000:.2f} s",
                f"{row['ran_ms'] / 1000:.2f} s",
            )
            for row in rows
        ),
    )


def show_totals(
    output: Output, totals: Sequence[usage_pb2.UsageTotal], groups: Sequence[str]
) -> None:
    """Prints sums as a table."""
    rows = [total_dict(total, groups) for total in totals]
    output.table(
        tuple(name.replace("_tokens", "") for name in total_columns(groups)),
        (
            (
                *(printable(str(row[name])) for name in groups),
                *(f"{row[name]:,}" for name in SUMS),
            )
            for row in rows
        ),
    )


def _ms(span: Duration) -> float:
    return span.ToMicroseconds() / 1000
