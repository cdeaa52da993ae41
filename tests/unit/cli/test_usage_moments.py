"""Times that `penstock usage` takes."""

from datetime import UTC, datetime, timedelta

import pytest

from services.cli.failures import UsageFailure
from services.cli.usage import parse_moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        (" 2026-01-31T12:00 ", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:01.5", datetime(2026, 1, 31, 12, 0, 1, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("99999w", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-01-31T12:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert parse_moment(text, "since") == moment


@pytest.mark.parametrize(
    ("text", "span"),
    [("12h", timedelta(hours=12)), ("7d", timedelta(days=7)), ("4w", timedelta(weeks=4))],
)
def test_spans_back_from_now(text: str, span: timedelta) -> None:
    before = datetime.now(UTC)
    moment = parse_moment(text, "since")
    assert before - span <= moment <= datetime.now(UTC) - span


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "7",
        "7y",
        "-7d",
        "0d",
        "123456d",
        "2026-13-01",
        "2026-01-31T25:00",
        "0001-01-01T00:00+23:00",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        parse_moment(text, "until")
    assert caught.value.field == "until"
