"""`penstock chat` as a person has it: in a terminal."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Penstock
from tests.integration.cli.terminal import Terminal, assert_soon


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


def test_thoughts_are_shown_and_remembered(open_chat: Callable[..., Terminal]) -> None:
    terminal = open_chat()
    terminal.see("you › ")
    terminal.type("think\n")
    terminal.see("Well, ")
    terminal.see("[31mhm")
    terminal.see("\n\nSo it is.\n")
    terminal.see("you › ")
    terminal.type("recall\n")
    terminal.see("You thought: 'Well, ")
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
    terminal.type("half a line")
    terminal.see("half a line")  # so it reads: readline may sleep through a signal before that
    terminal.type("\x03")
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
