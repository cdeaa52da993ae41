"""What `penstock models deploy` shows in a terminal while a model loads."""

from collections.abc import Callable, Iterator

import pytest

from tests.integration.cli.conftest import Penstock
from tests.integration.cli.terminal import Terminal

CLEARS_LINE = "\x1b[2K"
TWO_THIRDS = "\x1b[91m" + "━" * 16 + "\x1b[0m"
"""Of a bar of 24."""
Deploy = Callable[..., Terminal]


@pytest.fixture
def deploy(penstock: Penstock) -> Iterator[Deploy]:
    """Deploys in a terminal. The stand-in's models load in thirds, one more with each look."""
    opened: list[Terminal] = []

    def begin(*words: str) -> Terminal:
        opened.append(Terminal(["models", "deploy", *words, *penstock.options]))
        return opened[-1]

    yield begin
    for terminal in opened:
        terminal.close()


def test_progress_is_shown_and_then_the_end(deploy: Deploy) -> None:
    terminal = deploy("new", "--source", "x")
    terminal.see("new ━")
    terminal.see("loading")
    terminal.see("new is ready.\n")
    assert terminal.end() == 0
    # Every picture takes the place of the one before; only the end stays.
    *_, last, end = terminal.raw.decode().split(CLEARS_LINE)
    assert TWO_THIRDS in last
    assert "loading" in last
    assert end.strip() == "new is ready."


def test_a_model_that_cannot_be_loaded_ends_its_progress(deploy: Deploy) -> None:
    terminal = deploy("new", "--source", "broken")
    terminal.see("loading")
    terminal.see("Error: new can't be loaded: bad weights")
    assert terminal.end() == 1
    assert b"Traceback" not in terminal.raw
