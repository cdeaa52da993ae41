import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.training.folder import (
    Chosen,
    Dropped,
    Ended,
    LoraPlan,
    Metrics,
    Note,
    Order,
    Plan,
    Progress,
    Record,
    Saved,
    Started,
)
from services.training.journal import (
    Journal,
    beat,
    holder,
    is_locked,
    last_beat,
    process_start,
    read_order,
    read_plan,
    read_records,
    worker_lock,
    write_order,
    write_plan,
    write_whole,
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
STEPS = st.integers(0, 2**40)
METRICS = st.dictionaries(st.text(max_size=8), NUMBERS, max_size=3)
RECORDS = st.one_of(
    st.builds(Started, NUMBERS, STEPS, STEPS),
    st.builds(Chosen, NUMBERS, STEPS, STEPS, STEPS, NUMBERS, NUMBERS, NUMBERS, STEPS, st.text()),
    st.builds(Progress, NUMBERS, STEPS, NUMBERS, st.none() | NUMBERS),
    st.builds(Metrics, NUMBERS, STEPS, NUMBERS, METRICS),
    st.builds(Saved, NUMBERS, STEPS, NUMBERS, METRICS, STEPS),
    st.builds(Dropped, NUMBERS, STEPS),
    st.builds(Note, NUMBERS, st.sampled_from(["info", "warn"]), st.text()),
    st.builds(Ended, NUMBERS, STEPS, st.sampled_from(["failed", "paused"]), message=st.text()),
)
PLAN = Plan(
    job_id="ftjob-1",
    model_id="ft:b:local::x",
    base_id="b",
    base_folder="/models/b",
    kind="chat",
    examples="chat",
    seed=2**40,
    lora=LoraPlan(rank=8, target_modules=("q_proj",)),
)


def written(path: Path, records: list[Record]) -> bytes:
    journal = Journal(path)
    for record in records:
        journal.write(record)
    journal.close()
    return path.read_bytes()


def read_all(path: Path, limit: int) -> list[Record]:
    found: list[Record] = []
    offset = 0
    while True:
        more, end = read_records(path, offset, limit=limit)
        assert (end == offset) == (not more)
        if end == offset:
            return found
        found += more
        offset = end


@given(st.lists(RECORDS, max_size=6), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], limit: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    written(path, records)
    assert read_all(path, limit) == records


@given(st.lists(RECORDS, min_size=1, max_size=3), RECORDS)
@settings(max_examples=25, deadline=None)
def test_a_line_torn_at_any_byte_is_left_by_readers_and_cut_off_by_the_next_writer(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], after: Record
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    whole = written(path, records)
    *_, last = whole.splitlines(keepends=True)
    start = len(whole) - len(last)
    for length in range(len(last)):
        path.write_bytes(whole[: start + length])
        assert read_all(path, 64) == records[:-1]
        assert read_records(path, start) == ([], start)
        assert written(path, [after]) == whole[:start] + path.read_bytes()[start:]
        assert read_all(path, 64) == [*records[:-1], after]


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_records(path, 0) == ([], 0)
    journal = Journal(path)
    journal.write(Started(1.0, 1, 2))
    first, offset = read_records(path, 0)
    assert first == [Started(1.0, 1, 2)]
    assert read_records(path, offset) == ([], offset)
    journal.write(Note(2.0, "info", "a\nb"))
    assert read_records(path, offset)[0] == [Note(2.0, "info", "a\nb")]
    journal.close()


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"from_the_future","time":1}',
        b'{"type":"note"}',
        b"no json",
        b"\xff\xfe",
        b"\x00\x00\x00",
        b"[" * 100_000,
        b"",
    ],
)
def test_lines_that_are_no_known_record_are_skipped(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    note = written(path, [Note(1.0, "info", "x")])
    path.write_bytes(note + line + b"\n" + note)
    records, offset = read_records(path, 0)
    assert records == [Note(1.0, "info", "x")] * 2
    assert offset == path.stat().st_size


def test_fields_of_a_newer_worker_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"type":"dropped","time":1.5,"step":3,"why":"room"}\n')
    assert read_records(path, 0)[0] == [Dropped(1.5, 3)]


def test_after_a_power_cut_reading_goes_on_from_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    whole = written(path, [Dropped(1.0, number) for number in range(9)])
    line = len(whole) // 9
    path.write_bytes(whole[: 4 * line])  # the rest was never on the disk
    assert read_records(path, len(whole)) == ([], 4 * line)
    written(path, [Note(1.0, "info", "a longer line than those that are gone" * 9)])
    assert read_records(path, 6 * line + 3)[0] == [
        Note(1.0, "info", "a longer line than those that are gone" * 9)
    ]


def test_a_record_that_does_not_fit_on_the_disk_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = f"""
import resource, signal
from pathlib import Path
from services.training.folder import Note, Dropped
from services.training.journal import Journal
journal = Journal(Path({str(path)!r}))
journal.write(Dropped(1.0, 1))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    journal.write(Note(1.0, "info", "x" * 500))
except OSError as error:
    print(error.errno)
journal.write(Dropped(1.0, 2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(done.stdout) == errno.EFBIG
    assert read_records(path, 0)[0] == [Dropped(1.0, 1), Dropped(1.0, 2)]


def test_plans_and_orders_come_back_as_they_were(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", PLAN)
    assert read_plan(tmp_path / "plan.json") == PLAN
    assert read_order(tmp_path / "order.json") is Order.RUN
    for order in Order:
        write_order(tmp_path / "order.json", order)
        assert read_order(tmp_path / "order.json") is order
    (tmp_path / "order.json").write_bytes(b'{"order":"dance"}')
    assert read_order(tmp_path / "order.json") is Order.RUN
    assert sorted(file.name for file in tmp_path.iterdir()) == ["order.json", "plan.json"]


def test_no_plan_is_no_default(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_bytes(b"{}")
    with pytest.raises(msgspec.DecodeError):
        read_plan(tmp_path / "plan.json")


def test_a_file_is_replaced_whole_also_over_what_was_left_half(tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"half a file that is longer than the new one")
    write_whole(tmp_path / "x", b"one")
    write_whole(tmp_path / "x", b"two")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"two"


def test_one_worker_at_a_time_and_the_kernel_lets_go_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "worker.lock"
    assert not is_locked(path)
    assert holder(path) is None
    code = f"""
import sys
from pathlib import Path
from services.training.journal import worker_lock
with worker_lock(Path({str(path)!r}), 3) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdin is not None
    assert worker.stdout.readline() == b"True\n"
    assert is_locked(path)
    known = holder(path)
    assert known is not None
    assert (known.pid, known.attempt, known.start) == (worker.pid, 3, process_start(worker.pid))
    assert known.is_running()
    with worker_lock(path, 4) as mine:
        assert not mine
    assert holder(path) == known
    worker.kill()
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()
    assert not is_locked(path)
    assert holder(path) is None
    assert not known.is_running()
    with worker_lock(path, 5) as mine:
        assert mine
        own = holder(path)
        assert own is not None
        assert (own.pid, own.attempt) == (os.getpid(), 5)


def test_hearts_beat(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    assert last_beat(path) is None
    beat(path)
    os.utime(path, (1, 1))
    assert last_beat(path) == 1.0
    beat(path)
    assert (last_beat(path) or 0) > 1.0


def test_processes_that_are_gone_began_never() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_start(process.pid) is None
    assert process_start(os.getpid()) is not None
