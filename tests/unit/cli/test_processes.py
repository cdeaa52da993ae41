import pytest

from services.cli.backoff import Backoff
from services.cli.logfile import LogFile
from services.cli.processes import LONGEST_LINE, Lines, describe_exit, ready_address


def test_backoff_doubles_up_to_its_limit_and_starts_over_after_a_good_run() -> None:
    backoff = Backoff(first_s=0.5, most_s=4, settled_s=30)
    assert [backoff.died(1) for _ in range(5)] == [0.5, 1, 2, 4, 4]
    assert backoff.died(30) == 0.5
    assert backoff.died(29.9) == 1


def test_backoff_survives_a_thousand_deaths() -> None:
    backoff = Backoff()
    assert [backoff.died(0) for _ in range(1000)][-1] == backoff.most_s


def test_lines_are_cut_at_line_ends_only() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    for piece in (b"one\ntw", b"o\r\n", b"\xe2\x82", b"\xac\nlast"):
        lines.feed(piece)
    assert seen == ["one", "two", "€"]
    lines.flush()
    assert seen[-1] == "last"


def test_an_endless_line_is_cut() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    lines.feed(b"x" * (LONGEST_LINE + 1))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ('{"service":"model","address":"127.0.0.1:50051"}', "127.0.0.1:50051"),
        ('{"service":"model"}', None),
        ('{"service":"model","address":5}', None),
        ('{"level":"info"', None),
        ("[1]", None),
        ("starting", None),
        ("", None),
    ],
)
def test_ready_line(line: str, address: str | None) -> None:
    assert ready_address(line) == address


def test_exits_in_words() -> None:
    assert describe_exit(2) == "ended with exit code 2"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-99) == "was killed by signal 99"


def test_log_file_turns_over_when_full(tmp_path) -> None:
    log = LogFile(tmp_path / "logs" / "model.log", limit_bytes=20, tail=2)
    for number in range(5):
        log.write(f"line number {number}")
    log.close()
    assert log.tail == ["line number 3", "line number 4"]
    assert (tmp_path / "logs" / "model.log").read_text() == "line number 4\n"
    assert "line number 3" in (tmp_path / "logs" / "model.log.1").read_text()
