"""`penstock chat` as a person has it: in a terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Penstock

# Takes the terminal as its own. A fork of this process could crash: gRPC hooks into forks.
# Whoever runs the tests in the background may have had Ctrl-C ignored.
LAUNCH = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, words: list[str]) -> None:
        self.text = ""
        self._bytes = b""
        self._seen = 0
        self._master, slave = pty.openpty()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        environment |= {"PYTHONPATH": ":".join(filter(None, sys.path)), "TERM": "xterm"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "-m", "services.cli", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def see(self, text: str, within_s: float = 30) -> None:
        """Waits for a text, and forgets what came up to it."""
        deadline = time.monotonic() + within_s
        while text not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in {self.text!r}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    raise AssertionError(f"it ended after {self.text!r}") from None
                self._bytes += data
                whole = self._bytes.decode("utf-8", "replace").replace("\r", "")
                self.text = ESCAPES.sub("", whole)[self._seen :]
        before, _, self.text = self.text.partition(text)
        self._seen += len(before + text)

    def end(self) -> int:
        """Waits for the command's end and returns its exit status."""
        while True:
            try:
                if not os.read(self._master, 65536):
                    break
            except OSError:
                break
        self.close()
        return self._process.returncode

    def close(self) -> None:
        """Hangs up, and waits for the command; once is enough."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        self._process.wait(30)


@pytest.fixture
def open_chat(penstock: Penstock) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(["chat", *words, *penstock.options]))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


def test_a_conversation(open_chat: Callable[..., Terminal]) -> None:
    terminal = open_chat()
    terminal.see("Talking to starter")
    terminal.see("you › ")
    terminal.type("hello you\n")
    terminal.see("\nhello you \n")
    terminal.see("5 tokens")
    terminal.see("you › ")
    terminal.type("count\n")
    terminal.see("3 messages, starter")
    terminal.type("/clear\n")
    terminal.see("Forgotten.")
    terminal.type("/model other/model:7b\n")
    terminal.see("Now talking to other/model:7b.")
    terminal.type("count\n")
    terminal.see("1 messages, other/model:7b")
    terminal.type("/model nobody\n")
    terminal.see("There is no chat model 'nobody'.")
    terminal.type("/model\n")
    terminal.see("● other/model:7b")
    terminal.type("/help\n")
    terminal.see("/clear")
    terminal.type("/nonsense\n")
    terminal.see("There is no /nonsense.")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_keeps_the_session(
    open_chat: Callable[..., Terminal], penstock: Penstock
) -> None:
    terminal = open_chat()
    terminal.see("you › ")
    terminal.type("for ever\n")
    terminal.see("again again")
    terminal.type("\x03")
    terminal.see("Stopped.")
    terminal.see("you › ")
    assert_soon(penstock.cancelled.exists)
    terminal.type("count\n")
    terminal.see("3 messages")  # what was said before the stop is remembered
    terminal.see("you › ")
    terminal.type("half a line\x03")
    terminal.see("you › ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_an_error_keeps_the_session(open_chat: Callable[..., Terminal]) -> None:
    terminal = open_chat()
    terminal.see("you › ")
    terminal.type("full\n")
    terminal.see("Error: Too many requests wait.")
    terminal.see("you › ")
    terminal.type("count\n")
    terminal.see("1 messages")  # the refused turn left no trace
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_tool_calls_ask_for_their_result(
    open_chat: Callable[..., Terminal], tmp_path: Path
) -> None:
    (tmp_path / "tools.json").write_text('[{"name": "get_weather"}]')
    terminal = open_chat("--tools", "tools.json")
    terminal.see("you › ")
    terminal.type("tools\n")
    terminal.see('→ get_weather({"city": "Paris"})')
    terminal.see("result of get_weather › ")
    terminal.type("count\n")
    terminal.see("3 messages")
    terminal.see("you › ")
    terminal.type("tools\n")
    terminal.see("result of get_weather › ")
    terminal.type("\n")
    terminal.see("the call is forgotten")
    terminal.see("you › ")
    terminal.type("count\n")
    terminal.see("5 messages")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def assert_soon(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
