"""What a check says of a file."""

import msgspec

from services.training.examples.formats import Format


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was found in a file: the one line of JSON that the check prints."""

    format: Format | None = None
    """What its examples are; None where no line is good."""
    example_count: int = 0
    """Good lines."""
    bad_line_count: int = 0
    line: int = 0
    """The first bad line, from 1. 0: none is at fault."""
    column: int = 0
    """Where in that line, in characters from 1."""
    message: str = ""
    """What is wrong with that line, or with the file, for people. Empty: the file is good."""

    @property
    def good(self) -> bool:
        """Whether the file can be trained on."""
        return not self.message
