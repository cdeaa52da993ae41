"""Metering: a record and a settled reservation for each request, once."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from penstock.image.v1 import image_pb2

from policy.principals import Principal, Role
from services.errors import Cancelled, DeadlineExceeded, Internal, RateLimited, StorageFull
from services.metering import FREE, Outcome, TokenAllowance, Unmetered, Used, Work, outcome_of
from services.rpc.call import Call, serving
from services.rpc.metadata import dialect_from
from services.rpc.metering import Metering, digest_of, open_journal, work_of
from services.settings import SettingsError, load
from services.usage.journal import Journal, segments, taken
from services.usage.records import Record
from telemetry.tracing import continue_trace

ALICE = Principal("alice", "Alice", frozenset({Role.USER}))
WORK = Work(ALICE, "req-1", "x/Chat", "echo", prompt_tokens=5, most_output_tokens=7, digest="d")


@dataclass
class Reservation:
    allowance: TokenAllowance | None = None
    settled: list[int] = field(default_factory=list[int])

    def settle(self, total_tokens: int) -> None:
        self.settled.append(total_tokens)


@dataclass
class Limiter:
    made: list[Reservation] = field(default_factory=list[Reservation])
    full: bool = False

    async def admit(self, work: Work) -> Reservation:
        if self.full:
            raise RateLimited("too many tokens")
        self.made.append(Reservation(TokenAllowance(100, 88, 1.0)))
        return self.made[-1]


def journal_in(folder: Path, **more: Any) -> Journal:
    return Journal(folder / "usage", "inference", **{"most_bytes": 0} | more)


def records(journal: Journal) -> list[Record]:
    journal.rotate()
    found: list[Record] = []
    for path in segments(journal.folder):
        with taken(path) as segment:
            assert segment is not None
            found += segment.records
    return found


async def test_what_is_settled_is_written_and_given_back_once(tmp_path: Path) -> None:
    journal, limiter = journal_in(tmp_path), Limiter()
    metered = await Metering(journal, limiter).admit(WORK)
    assert metered.allowance == TokenAllowance(100, 88, 1.0)
    assert records(journal) == []
    metered.settle(Used(Outcome.OK, 5, 3, 2, 1, 0.5, 1.25))
    metered.settle(Used(Outcome.FAILED, 9, 9))
    metered.withdraw()
    (record,) = records(journal)
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("ok", 5, 3)
    assert (record.cached_tokens, record.images) == (2, 1)
    assert (record.queued_us, record.ran_us) == (500_000, 1_250_000)
    assert limiter.made[0].settled == [8]


async def test_what_is_withdrawn_was_nothing(tmp_path: Path) -> None:
    journal, limiter = journal_in(tmp_path), Limiter()
    metered = await Metering(journal, limiter).admit(WORK)
    metered.withdraw()
    metered.settle(Used(Outcome.OK, 5, 3))
    assert records(journal) == []
    assert limiter.made[0].settled == [0]


async def test_what_is_not_admitted_has_no_record(tmp_path: Path) -> None:
    journal, limiter = journal_in(tmp_path), Limiter(full=True)
    with pytest.raises(RateLimited):
        await Metering(journal, limiter).admit(WORK)
    assert records(journal) == []


async def test_a_full_journal_turns_away_where_it_is_told_to(tmp_path: Path) -> None:
    journal, limiter = journal_in(tmp_path, most_bytes=10_000), Limiter()
    meter = Metering(journal, limiter, refuses=True)
    count = 0
    while not journal.full:
        for metered in [await meter.admit(WORK) for _ in range(2)]:
            metered.settle(Used(Outcome.OK, 5, 3))
            count += 1
    with pytest.raises(StorageFull):
        await meter.admit(WORK)
    assert len(limiter.made) == count, "nothing is reserved for who is turned away"
    assert len(records(journal)) == count, "there was room for those that ran"
    await Metering(journal, limiter).admit(WORK)
    for path in segments(journal.folder):
        path.unlink()
    journal.measure()
    await meter.admit(WORK)


async def test_without_a_meter_everything_is_free() -> None:
    metered = await Unmetered().admit(WORK)
    assert metered is FREE
    assert metered.allowance is None
    metered.settle(Used(Outcome.OK))
    metered.withdraw()


@pytest.mark.parametrize(
    ("error", "is_late", "outcome"),
    [
        (None, False, Outcome.OK),
        (DeadlineExceeded("late"), False, Outcome.DEADLINE_EXCEEDED),
        (asyncio.CancelledError(), False, Outcome.CANCELLED),
        (asyncio.CancelledError(), True, Outcome.DEADLINE_EXCEEDED),
        (GeneratorExit(), False, Outcome.CANCELLED),
        (Cancelled("left"), True, Outcome.DEADLINE_EXCEEDED),
        (Internal("no"), True, Outcome.FAILED),
        (KeyError("bug"), False, Outcome.FAILED),
    ],
)
def test_outcomes(error: BaseException | None, is_late: bool, outcome: Outcome) -> None:
    assert outcome_of(error, is_late=is_late) is outcome


async def test_digests_tell_contents_apart() -> None:
    small = image_pb2.ImageRequest(prompt="a", init_images=[b"x"])
    large = image_pb2.ImageRequest(prompt="a", init_images=[b"x" * 2**21])
    assert await digest_of(small) == await digest_of(
        image_pb2.ImageRequest.FromString(small.SerializeToString())
    )
    found = {
        await digest_of(one)
        for one in (small, large, image_pb2.ImageRequest(), image_pb2.ImageRequest(prompt="b"))
    }
    assert len(found) == 4


async def test_work_is_that_of_the_call() -> None:
    call = Call(
        "/penstock.image.v1.ImageService/Generate",
        "req-9",
        continue_trace(None),
        asyncio.Event(),
        principal=ALICE,
        dialect="gel",
    )
    with serving(call):
        work = await work_of(image_pb2.ImageRequest(prompt="a"), model="m", user="u")
    assert (work.principal, work.request_id, work.dialect) == (ALICE, "req-9", "gel")
    assert (work.method, work.model, work.user) == (
        "penstock.image.v1.ImageService/Generate",
        "m",
        "u",
    )
    assert work.digest == await digest_of(image_pb2.ImageRequest(prompt="a"))


@pytest.mark.parametrize(
    ("given", "dialect"),
    [
        ("openai", "openai"),
        ("x-2_y", "x-2_y"),
        ("", "grpc"),
        (None, "grpc"),
        (b"openai", "grpc"),
        ("Open AI", "grpc"),
        ("a" * 33, "grpc"),
        ("openai\n", "grpc"),
    ],
)
def test_dialects_are_short_names(given: object, dialect: str) -> None:
    assert dialect_from(given) == dialect


def test_a_folder_that_can_t_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = load(env={}, overrides={"services.data_dir": tmp_path / "file"})
    with pytest.raises(SettingsError, match="Usage is written down there"):
        open_journal(settings, "inference")
