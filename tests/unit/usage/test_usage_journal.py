"""The journal: what was told is sent, whatever is killed in between, and counted once."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.principals import Principal, Role
from services.errors import InvalidArgument, Unavailable
from services.metering import Outcome, Used, Work
from services.usage.delivery import Delivery
from services.usage.journal import Journal, segments, taken
from services.usage.records import Begun, Record, from_line, record_id, to_line

ALICE = Principal("alice", "Alice", frozenset({Role.USER}))


def work(number: int = 1, **more: Any) -> Work:
    given: dict[str, Any] = {
        "principal": ALICE,
        "request_id": f"req-{number}",
        "method": "penstock.inference.v1.InferenceService/Chat",
        "model": "echo",
        "digest": "d",
    }
    return Work(**given | more)


def record(number: int = 1, tokens: int = 3) -> Record:
    return Begun(work(number), 1000).record(Used(Outcome.OK, prompt_tokens=tokens))


def died(journal: Journal) -> None:
    """What a kill leaves: an open file whose lock is free, and nothing else."""
    journal.rotate()


class Books:
    """A ledger: keeps each ID once, and is told when to break."""

    def __init__(self) -> None:
        self.kept: dict[str, Record] = {}
        self.batches: list[int] = []
        self.fails = 0
        self.forgets_to_answer = 0
        self.refuses: set[str] = set()

    async def record(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        self.batches.append(len(records))
        if self.fails:
            self.fails -= 1
            raise Unavailable("away")
        if any(record.id in self.refuses for record in records):
            raise InvalidArgument("no", field="records[0].model")
        for record in records:
            self.kept.setdefault(record.id, record)
        if self.forgets_to_answer:
            self.forgets_to_answer -= 1
            raise Unavailable("killed after it had kept them")


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


def opened(folder: Path, **more: Any) -> Journal:
    return Journal(folder, "inference", **{"most_bytes": 0} | more)


async def test_what_is_written_is_sent_and_removed(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    written = [record(number) for number in range(3)]
    for one in written:
        journal.append(one)
    assert len(segments(tmp_path)) == 1
    await Delivery(journal, books.record).send_all()
    assert list(books.kept.values()) == written
    assert files(tmp_path) == []
    journal.append(record(9))
    await Delivery(journal, books.record).send_all()
    assert len(books.kept) == 4


async def test_a_file_is_nobody_elses_while_it_is_written(tmp_path: Path) -> None:
    living, other, books = opened(tmp_path), opened(tmp_path), Books()
    living.append(record(1))
    await Delivery(other, books.record).send_all()
    assert (books.kept, len(segments(tmp_path))) == ({}, 1)
    died(living)
    await Delivery(other, books.record).send_all()
    assert len(books.kept) == 1


async def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    journal.append(record(1))
    died(journal)
    (path,) = segments(tmp_path)
    for end in range(1, len(to_line(record(2)))):
        path.write_bytes(to_line(record(1)) + to_line(record(2))[:end])
        with taken(path) as segment:
            assert segment == ([record(1)], [])
    await Delivery(opened(tmp_path), books.record).send_all()
    assert list(books.kept.values()) == [record(1)]


async def test_a_line_that_is_no_record_is_set_aside(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    journal.append(record(1))
    died(journal)
    (path,) = segments(tmp_path)
    path.write_bytes(b'{"id": 1}\n\xff\xfe\n' + path.read_bytes())
    await Delivery(opened(tmp_path), books.record).send_all()
    assert list(books.kept.values()) == [record(1)]
    (aside,) = files(tmp_path)
    assert (aside.suffix, aside.read_bytes()) == (".refused", b'{"id": 1}\n\xff\xfe\n')


async def test_a_record_that_the_ledger_refuses_keeps_none_waiting(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    written = [record(number) for number in range(9)]
    books.refuses = {written[4].id}
    for one in written:
        journal.append(one)
    await Delivery(journal, books.record).send_all()
    assert set(books.kept) == {one.id for one in written} - books.refuses
    (aside,) = files(tmp_path)
    assert from_line(aside.read_bytes().rstrip()) == written[4]


async def test_files_grow_while_the_ledger_is_away(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    delivery = Delivery(journal, books.record)
    books.fails = 1000
    for number in range(50):
        journal.append(record(number))
        with pytest.raises(Unavailable):
            await delivery.send_all()
    assert len(segments(tmp_path)) == 2, "the one that was tried, and the one that grows"
    books.fails = 0
    await delivery.send_all()
    assert len(books.kept) == 50
    assert max(books.batches) == 49


async def test_a_batch_has_a_thousand_records_at_most(tmp_path: Path) -> None:
    journal, books = opened(tmp_path, segment_bytes=10**9), Books()
    for number in range(2500):
        journal.append(record(number))
    await Delivery(journal, books.record).send_all()
    assert (books.batches, len(books.kept)) == ([1000, 1000, 500], 2500)


async def test_it_sends_on_for_ever(tmp_path: Path) -> None:
    journal, books = opened(tmp_path), Books()
    delivery = Delivery(journal, books.record, gather_s=0.001, sweep_s=0.01)
    running = asyncio.create_task(delivery.run())
    try:
        for round_ in range(3):
            books.fails = 2
            journal.append(record(round_))
            await until(lambda wanted=round_ + 1: len(books.kept) == wanted)
        left = opened(tmp_path)
        left.append(record(99))
        died(left)  # found without anything being written here
        await until(lambda: len(books.kept) == 4)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_when_it_is_full_records_go_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = len(to_line(record(1)))
    journal, books = opened(tmp_path, most_bytes=3 * size), Books()
    for number in range(1, 6):
        assert journal.full is (number > 3), "one more than runs already"
        journal.append(record(number))
    logged = [line for line in caplog.messages if line.startswith("usage not kept: ")]
    lost = [from_line(line.removeprefix("usage not kept: ").encode()) for line in logged]
    assert lost == [record(4), record(5)]
    assert sum("usage can't be kept" in line for line in caplog.messages) == 1
    await Delivery(journal, books.record).send_all()
    assert not journal.full
    journal.append(record(6))
    await Delivery(journal, books.record).send_all()
    assert [one.request_id for one in books.kept.values()] == ["req-1", "req-2", "req-3", "req-6"]


async def test_a_folder_that_is_taken_away_is_made_again(tmp_path: Path) -> None:
    journal, books = opened(tmp_path / "usage"), Books()
    journal.append(record(1))
    for path in segments(journal.folder):
        path.unlink()
    journal.folder.rmdir()
    journal.append(record(2))
    await Delivery(journal, books.record).send_all()
    assert list(books.kept.values()) == [record(2)]


def test_a_disk_that_fails_is_told_and_torn_records_stay_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from tests.unit.usage.test_usage_journal import opened, record
journal = opened(Path(sys.argv[1]))
journal.append(record(1))
size = next(Path(sys.argv[1]).iterdir()).stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # a disk with room for ten bytes
journal.append(record(2))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.append(record(3))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert '"request_id":"req-2"' in ran.stderr
    found: list[Record] = []
    for path in segments(tmp_path):
        with taken(path) as segment:
            assert segment is not None
            assert segment.broken == []
            found += segment.records
    assert found == [record(1), record(3)]


STEPS = st.lists(
    st.sampled_from(
        ["write", "write", "write", "same", "torn", "send", "fail", "lost", "kill", "cut"]
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, segment_bytes=st.sampled_from([1, 300, 5000]))
def test_kills_lose_nothing_that_was_told_and_double_nothing(
    steps: list[str], segment_bytes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("usage")
    books = Books()
    told: dict[str, Record] = {}

    async def run() -> None:
        journal = opened(folder, segment_bytes=segment_bytes)
        for number, step in enumerate(steps):
            match step:
                case "write" | "same":
                    one = record(0 if step == "same" else number + 1)
                    journal.append(one)
                    told.setdefault(one.id, one)
                case "torn":  # killed within a write: nobody was told
                    line = to_line(record(number + 1))
                    died(journal)
                    torn = folder / f"inference-torn-{number}.jsonl"
                    torn.write_bytes(line[: random.Random(number).randrange(len(line))])
                    journal = opened(folder, segment_bytes=segment_bytes)
                case "send":
                    await Delivery(journal, books.record).send_all()
                case "fail" | "lost":
                    books.fails = int(step == "fail")
                    books.forgets_to_answer = int(step == "lost")
                    with suppress(Unavailable):
                        await Delivery(journal, books.record).send_all()
                    books.fails = books.forgets_to_answer = 0
                case "kill":
                    died(journal)
                    journal = opened(folder, segment_bytes=segment_bytes)
                case _:  # killed while it sends
                    sending = asyncio.create_task(Delivery(journal, books.record).send_all())
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                    died(journal)
                    journal = opened(folder, segment_bytes=segment_bytes)
        await Delivery(journal, books.record).send_all()

    asyncio.run(run())
    assert books.kept == told
    assert files(folder) == []


def test_a_process_that_is_killed_loses_nothing_that_it_told(tmp_path: Path) -> None:
    script = """
import itertools, sys
from pathlib import Path
from tests.unit.usage.test_usage_journal import opened, record
journal = opened(Path(sys.argv[1]), segment_bytes=2000)
for number in itertools.count(1):
    journal.append(record(number))
    print(number, flush=True)
"""
    books = Books()
    for wanted in (1, 7, 40):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told = 0
        while told < wanted:
            told = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.wait()
        process.stdout.close()
        asyncio.run(Delivery(opened(tmp_path), books.record).send_all())
        numbers = {int(one.request_id.removeprefix("req-")) for one in books.kept.values()}
        assert set(range(1, told + 1)) <= numbers
        assert segments(tmp_path) == []


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"prompt_tokens": 5, "model": "of another revision"}, True),
        ({"request_id": "req-2"}, False),
        ({"digest": "e"}, False),
        ({"method": "penstock.inference.v1.InferenceService/Complete"}, False),
        ({"principal": Principal("bob", "Bob", frozenset({Role.USER}))}, False),
    ],
)
def test_a_retry_has_the_same_record(other: dict[str, Any], same: bool) -> None:
    assert (record_id(work()) == record_id(work(**other))) is same


def test_parts_of_the_name_don_t_run_into_each_other() -> None:
    assert record_id(work(request_id="a", method="bc")) != record_id(
        work(request_id="ab", method="c")
    )


def test_without_a_digest_each_is_its_own() -> None:
    assert record_id(work(digest="")) != record_id(work(digest=""))


def test_texts_are_such_as_a_database_takes() -> None:
    long = Begun(work(user="a\0" * 9999, model="m" * 9999), 1).record(Used(Outcome.FAILED))
    assert (len(long.user), len(long.model), "\0" in long.user) == (512, 256, False)
    assert json.loads(to_line(long))["outcome"] == "failed"


def test_a_record_of_a_newer_release_is_read() -> None:
    line = to_line(record(1)).rstrip()[:-1] + b',"colour":"blue"}'
    assert from_line(line) == record(1)
