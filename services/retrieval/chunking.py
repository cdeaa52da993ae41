"""Splits texts into chunks.

The tokenizer belongs to the embedding model, in another process, so tokens are estimated here, by a
rule that seldom says too few: EmbeddingService counts exactly, refuses a chunk that is too long for
the model, and that one is halved.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from services.errors import InvalidArgument

# One match is one estimated token. Measured on prose, code and tables, tokenizers make 0.7 to 1.0
# tokens of it. Text that no tokenizer has words for, such as Base64, counts by its characters.
_TOKEN = re.compile(
    r"(?=[A-Za-z0-9+/=_]{40})[A-Za-z0-9+/=_]"
    r"|(?=[A-Za-z]{13})[A-Za-z]{2}|[A-Za-z]{1,4}"
    r"|(?=[0-9]{5})[0-9]|[0-9]{1,2}"
    r"|\s{2,16}|\S"
)
_VISIBLE = re.compile(r"\S")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s|[。！？]|\n")
_WORD_END = re.compile(r"\s")
_BORDERS = (
    re.compile(r"\n(?=#{1,6} )"),  # before a heading
    re.compile(r"\n[^\S\n]*\n"),  # between paragraphs
    re.compile(r"[.!?…][\"'”’»)\]]*\s|[。！？]"),  # between sentences
    re.compile(r"\n"),
    _WORD_END,
    re.compile(r"[,;:)\]}>、，；：]"),
)
"""Where to cut, the best place first: behind a match."""
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")
_MAX_CLUSTER = 32
_GROWTH = 8
_GROWTH_ALLOWANCE = 1_000_000


@dataclass(frozen=True)
class Piece:
    """A chunk, before it has a vector."""

    text: str
    """Without blanks around it."""
    start_byte: int
    """Its first byte in the text, as UTF-8."""
    end_byte: int
    """The byte after its last."""

    @cached_property
    def token_count(self) -> int:
        """Estimated tokens, without those that a model adds around every input."""
        return estimated_tokens(self.text)


def estimated_tokens(text: str) -> int:
    """Returns how many tokens a text has at most, roughly."""
    return sum(1 for _ in _TOKEN.finditer(text))


def split(
    text: str, max_tokens: int, overlap_tokens: int = 0, *, whole_documents: bool = False
) -> list[Piece]:
    """Splits a text into chunks of at most `max_tokens` estimated tokens.

    They end before headings, or between paragraphs, sentences or words, where their second half has
    such a place. Neighbours share at most `overlap_tokens`, from the begin of a sentence or word.
    Together they hold every visible character; a text without any has no chunks. With
    `whole_documents` there is one, however long. Takes time in proportion to the text: run it in a
    thread where that is long.

    Raises:
        InvalidArgument: the overlap repeats the text too often.
    """
    whole = [(0, len(text))]
    return list(
        _pieces(text, whole if whole_documents else _spans(text, max_tokens, overlap_tokens))
    )


def halve(piece: Piece) -> list[Piece]:
    """Cuts a chunk in two, near its middle; one of a single character stays one."""
    text = piece.text
    if len(text) < 2:
        return [piece]
    starts = [found.start() for found in _TOKEN.finditer(text)]
    count = len(starts)
    if count < 3:
        cut = _unclustered(text, 1, len(text) // 2)
    else:
        cut = _cut(text, starts[count // 3], starts[count - count // 3])
    offset = piece.start_byte
    return [
        Piece(half.text, half.start_byte + offset, half.end_byte + offset)
        for half in _pieces(text, [(0, cut), (cut, len(text))])
    ]


def _spans(text: str, max_tokens: int, overlap_tokens: int) -> Iterator[tuple[int, int]]:
    """Yields begin and end of each chunk, in characters; begins and ends both ascend."""
    written = 0
    begin = new = _next_visible(text, 0)
    while new is not None and begin is not None:
        starts = _starts(text, begin, max_tokens)
        if len(starts) <= max_tokens:
            end = len(text)
        elif starts[max_tokens] <= new:  # what is shared fills the chunk
            begin = new
            continue
        else:
            end = _cut(text, max(starts[max_tokens // 2], new + 1), starts[max_tokens])
        yield begin, end
        written += end - begin
        if written > _GROWTH * len(text) + _GROWTH_ALLOWANCE:
            raise InvalidArgument(
                "The chunks overlap so much that they repeat the text more than "
                f"{_GROWTH} times: make overlap_tokens smaller.",
                field="chunking.overlap_tokens",
            )
        begin = new = _next_visible(text, end)
        if overlap_tokens:
            first = max(1, bisect_left(starts, end) - overlap_tokens)
            begin = _next_visible(text, _overlap(text, starts, first, end))


def _starts(text: str, begin: int, max_tokens: int) -> list[int]:
    return [found.start() for found in islice(_TOKEN.finditer(text, begin), max_tokens + 1)]


def _next_visible(text: str, begin: int) -> int | None:
    found = _VISIBLE.search(text, begin)
    return found.start() if found else None


def _cut(text: str, low: int, high: int) -> int:
    """Returns the best place to cut, from `low` to `high`; the last of the best kind."""
    for border in _BORDERS:
        # A match may look ahead, past `high`.
        ends = (found.end() for found in border.finditer(text, max(0, low - 1), high + 8))
        best = max((end for end in ends if low <= end <= high), default=None)
        if best is not None:
            return best
    return _unclustered(text, low, high)


def _overlap(text: str, starts: list[int], first: int, end: int) -> int:
    """Returns where the next chunk begins, to share the tokens from `first` up to `end`."""
    if first >= len(starts) or (begin := starts[first]) >= end:
        return end
    middle = starts[first + (bisect_left(starts, end) - first) // 2]
    for border, limit in ((_SENTENCE_END, middle), (_WORD_END, end)):
        if found := border.search(text, begin - 1, limit):
            return found.end()
    places = range(begin, min(begin + _MAX_CLUSTER, end))
    return next((place for place in places if not _continues(text, place)), end)


def _unclustered(text: str, low: int, high: int) -> int:
    """Returns the last place from `low` to `high` that parts no marks from their letter."""
    for place in range(high, max(low, high - _MAX_CLUSTER) - 1, -1):
        if not _continues(text, place):
            return place
    return high


def _continues(text: str, place: int) -> bool:
    if not 0 < place < len(text):
        return False
    mark, before = text[place], text[place - 1]
    return (
        unicodedata.combining(mark) != 0
        or unicodedata.category(mark) in {"Mn", "Mc", "Me"}
        or mark in _JOINERS
        or before == "\u200d"
        or "\U0001f3fb" <= mark <= "\U0001f3ff"  # colours of skin
    )


def _pieces(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[Piece]:
    """Makes chunks of spans, without the blanks around them; drops those of blanks alone."""
    begins, ends = _Bytes(text), _Bytes(text)
    for begin, end in spans:
        passage = text[begin:end]
        if visible := passage.strip():
            begin += len(passage) - len(passage.lstrip())
            yield Piece(visible, begins.at(begin), ends.at(begin + len(visible)))


class _Bytes:
    """Counts the bytes in front of ascending places of a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_ascii = text.isascii()
        self._place = self._bytes = 0

    def at(self, place: int) -> int:
        if self._is_ascii:
            return place
        self._bytes += len(self._text[self._place : place].encode())
        self._place = place
        return self._bytes
