"""Shows pictures in terminals."""

import base64
import io

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from services.cli.graphics import Graphics

MOST_ROWS = 24
"""Most lines of the terminal that a picture takes."""
_SPARE_ROWS = 4
_MOST_PIXELS = 1024
"""Longest side of what is sent; terminals shrink the rest anyway."""
_KITTY_CHUNK = 4096


def show(data: bytes, graphics: Graphics, console: Console) -> None:
    """Shows an image file. Raises OSError when it can't be decoded."""
    if graphics is Graphics.NONE:
        return
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
    except Image.DecompressionBombError as error:
        raise OSError("it has too many pixels") from error
    columns, rows = _cells(picture, console)
    if graphics is Graphics.BLOCKS:
        console.print(_Blocks(picture.resize((columns, rows * 2), Image.Resampling.LANCZOS)))
        return
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "PNG")
    words = _kitty if graphics is Graphics.KITTY else _iterm
    console.file.write(words(file.getvalue(), rows) + "\n")
    console.file.flush()


def _cells(picture: Image.Image, console: Console) -> tuple[int, int]:
    """Returns columns and rows to fill, of cells that are twice as high as wide."""
    most_rows = max(2, min(MOST_ROWS, console.size.height - _SPARE_ROWS))
    most_columns = max(2, console.size.width - 1)
    scale = min(most_rows * 2 / picture.height, most_columns / picture.width)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale / 2))


def _kitty(png: bytes, rows: int) -> str:
    text = base64.b64encode(png).decode()
    parts = [text[at : at + _KITTY_CHUNK] for at in range(0, len(text), _KITTY_CHUNK)]
    words: list[str] = []
    for number, part in enumerate(parts):
        # Shows a PNG over so many rows, and answers nothing (q=2) that the shell would read.
        head = f"a=T,f=100,q=2,r={rows}," if number == 0 else ""
        words.append(f"\x1b_G{head}m={int(number + 1 < len(parts))};{part}\x1b\\")
    return "".join(words)


def _iterm(png: bytes, rows: int) -> str:
    text = base64.b64encode(png).decode()
    return f"\x1b]1337;File=inline=1;size={len(png)};height={rows};preserveAspectRatio=1:{text}\x07"


class _Blocks:
    """A picture, two pixels to a cell: the upper half block in one colour on another."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: object) -> list[Segment]:
        width, height = self._picture.size
        raw = self._picture.tobytes()
        at = [raw[number : number + 3] for number in range(0, len(raw), 3)]
        found: list[Segment] = []
        for top in range(0, height, 2):
            for column in range(width):
                upper, lower = at[top * width + column], at[(top + 1) * width + column]
                style = Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower))
                found.append(Segment("▀", style))
            found.append(Segment.line())
        return found
