"""Tool calls that models write into their text, parsed while they stream.

A `ToolFormat` knows one family's way of writing; a parser is its state for one choice. New
families add a format to `FORMATS`.
"""

from services.inference.toolformats.hermes import HermesFormat
from services.inference.toolformats.llama import LlamaFormat
from services.inference.toolformats.mistral import MISTRAL_FORMATS
from services.inference.toolformats.port import (
    CallArguments,
    CallEnd,
    CallStart,
    Piece,
    ToolFormat,
    ToolParser,
)

__all__ = [
    "FORMATS",
    "CallArguments",
    "CallEnd",
    "CallStart",
    "Piece",
    "ToolFormat",
    "ToolParser",
    "tool_format",
]

FORMATS: tuple[ToolFormat, ...] = (HermesFormat(), LlamaFormat(), *MISTRAL_FORMATS)


def tool_format(chat_template: str) -> ToolFormat | None:
    """The format of models with this template; None when they can't call tools."""
    if "tools" not in chat_template:
        return None
    return next((known for known in FORMATS if known.writes(chat_template)), None)
