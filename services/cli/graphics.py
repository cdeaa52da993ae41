"""How a terminal shows pictures, by what it says of itself."""

from collections.abc import Mapping
from enum import Enum

from rich.console import Console

_KITTY = ("xterm-kitty", "xterm-ghostty")
_ITERM = ("iTerm.app", "WezTerm", "mintty", "rio")


class Graphics(Enum):
    """Ways to show a picture."""

    NONE = "none"
    BLOCKS = "blocks"
    """Two pixels to a cell, as coloured half blocks."""
    KITTY = "kitty"
    """https://sw.kovidgoyal.net/kitty/graphics-protocol/"""
    ITERM = "iterm"
    """https://iterm2.com/documentation-images.html"""


def graphics_of(environment: Mapping[str, str], console: Console) -> Graphics:
    """Tells how the terminal behind a console shows pictures; NONE where it isn't one."""
    if not console.is_terminal or console.is_dumb_terminal:
        return Graphics.NONE
    program = environment.get("TERM_PROGRAM", "")
    # A multiplexer between us and the terminal eats the protocols, and hides which one it is.
    if not (environment.get("TMUX") or environment.get("STY") or program == "tmux"):
        kitty = environment.get("TERM") in _KITTY or environment.get("KITTY_WINDOW_ID")
        if kitty or program == "ghostty":
            return Graphics.KITTY
        if program in _ITERM or environment.get("LC_TERMINAL") == "iTerm2":
            return Graphics.ITERM
    has_colours = console.color_system == "truecolor" and not console.no_color
    return Graphics.BLOCKS if has_colours else Graphics.NONE
