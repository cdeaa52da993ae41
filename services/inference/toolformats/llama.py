"""`{"name": …, "parameters": {…}}` and nothing else: Llama 3.1 to 3.3.

The call is the whole answer, or follows `<|python_tag|>`; several are joined by `;`.
"""

from services.inference.toolformats.port import Piece, ToolParser
from services.inference.toolformats.scanning import Scan
from services.inference.toolformats.walker import Walker

_TAG = "<|python_tag|>"


class _Llama(Walker):
    def __init__(self, names: frozenset[str], forced: str) -> None:
        super().__init__(names, forced, _TAG)
        if not forced:
            self._step = self._head

    def _end(self, pieces: list[Piece]) -> None:
        left_over = self._step == self._between and self._buffer.strip() == ";"
        if not left_over and self._step in (self._head, self._text, self._between):
            super()._end(pieces)

    def _head(self, pieces: list[Piece]) -> bool:
        """Reads a call at the beginning of the answer or after the tag."""

        def read(scan: Scan) -> str:
            scan.blanks()
            return scan.call(self._names)

        return self._try(read, self._no_call, pieces)

    def _tail(self, pieces: list[Piece]) -> bool:
        """Drops the brace that closes the call, and fields before it."""
        return self._close_object(self._between)

    def _between(self, pieces: list[Piece]) -> bool:
        """Reads the next call, where one follows."""

        def read(scan: Scan) -> str:
            scan.blanks()
            first = scan.one_of(";", _TAG, "{")
            if first == ";":
                scan.blanks()
                first = scan.one_of(_TAG, "{")
            if first == "{":
                scan.at -= 1
            scan.blanks()
            return scan.call(self._names)

        return self._try(read, self._no_call, pieces)


class LlamaFormat:
    """Calls without marks around them."""

    markers = frozenset({_TAG})
    separator = "; "
    one_call_per_turn = True

    def writes(self, chat_template: str) -> bool:
        """Whether the template is Llama's and shows calls with `parameters`."""
        return "<|start_header_id|>" in chat_template and '"parameters"' in chat_template

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A fresh parser."""
        return _Llama(names, forced)

    def opening(self, name: str) -> str:
        """Ends before the blank that tokenizers join to the brace that follows."""
        return f'{{"name": "{name}", "parameters":'

    def frame(self, name: str) -> tuple[str, str]:
        """The opening with its blank, and the closing brace."""
        return self.opening(name) + " ", "}"

    def identifier(self, id: str) -> str:
        """As it is."""
        return id
