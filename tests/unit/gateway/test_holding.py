"""Pictures that wait for others: a few are in memory, all are what they were."""

import gc
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from gateway.holding import Holder

PART = bytes(range(256)) * 4096
PARTS = 64


def test_most_lies_in_files_and_is_what_it_was() -> None:
    holder = Holder(3 * len(PART))
    held = [holder.hold(PART) for _ in range(5)]
    assert [type(each) for each in held] == [bytes, bytes, bytes, memoryview, memoryview]
    assert all(each == PART for each in held)
    assert b"".join(held) == 5 * PART
    small = Holder(10)
    assert small.hold(b"") == b""
    assert small.hold(b"x" * 11) == b"x" * 11
    assert small.hold(b"y" * 10) == b"y" * 10


def test_answers_take_little_memory() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        holder = Holder()
        held = [holder.hold(PART + b"%d" % number) for number in range(PARTS)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 17 * 2**20 < PARTS * len(PART)
    assert held[-1] == PART + b"%d" % (PARTS - 1)


def test_files_go_with_what_they_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    part = Holder(0).hold(PART)
    assert isinstance(part, memoryview)
    assert str(tmp_path) in mapped()
    del part
    gc.collect()
    assert str(tmp_path) not in mapped()


def test_a_disk_that_takes_nothing_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert Holder(0).hold(PART) is PART


def mapped() -> str:
    return Path("/proc/self/maps").read_text()
