"""Examples that models are trained on: how their files are read and checked."""

from services.training.examples.formats import (
    FORMATS,
    ChatExample,
    CompletionExample,
    Example,
    Format,
    Message,
    Method,
    PreferenceExample,
    Role,
    ToolCall,
)
from services.training.examples.reading import BadLine, read
from services.training.examples.report import Checked

__all__ = [
    "FORMATS",
    "BadLine",
    "ChatExample",
    "Checked",
    "CompletionExample",
    "Example",
    "Format",
    "Message",
    "Method",
    "PreferenceExample",
    "Role",
    "ToolCall",
    "read",
]
