import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.chunking import Piece, estimated_tokens, halve, split

PROSE = "The sky on Mars is red. Its dust is rust! Is it cold? It is.\n"
WORDS = st.sampled_from(
    [
        *("word", "a", "\n", "\n\n", "# Head", ". ", "! ", " ", "  ", "\t", ", ", "\u2028"),
        *("x" * 50, "12345678", "2024", "Mars.", "`code()`", "Überschwemmung"),
        *("é", "中文。", "e\u0301", "👩\u200d🚀", "\u0301"),
    ]
)
texts = st.one_of(
    st.text(max_size=300),
    st.lists(WORDS, max_size=120).map("".join),
    st.lists(WORDS, max_size=120).map(" ".join),
)


def covered(text: str, pieces: list[Piece]) -> None:
    """Asserts that every visible character lies in a piece, and that the pieces are true."""
    data = text.encode()
    seen = bytearray(len(data))
    for piece in pieces:
        assert data[piece.start_byte : piece.end_byte].decode() == piece.text
        assert piece.text == piece.text.strip() != ""
        seen[piece.start_byte : piece.end_byte] = b"\1" * (piece.end_byte - piece.start_byte)
    left = bytes(byte for byte, is_seen in zip(data, seen, strict=True) if not is_seen)
    assert left.decode().strip() == ""


@given(texts, st.integers(1, 40), st.integers(0, 39))
def test_chunks_hold_everything_and_fit(text: str, max_tokens: int, overlap: int) -> None:
    overlap = min(overlap, max_tokens - 1)
    pieces = split(text, max_tokens, overlap)
    covered(text, pieces)
    for piece in pieces:
        assert piece.token_count <= max_tokens
    for before, after in itertools.pairwise(pieces):
        assert before.start_byte < after.start_byte
        assert before.end_byte < after.end_byte
        shared = text.encode()[after.start_byte : before.end_byte].decode()
        assert estimated_tokens(shared) <= overlap
        if not overlap:
            assert before.end_byte <= after.start_byte


@given(texts)
def test_whole_documents_are_one_chunk(text: str) -> None:
    pieces = split(text, 1, 0, whole_documents=True)
    covered(text, pieces)
    assert len(pieces) == bool(text.strip())


@given(texts)
def test_halves_hold_everything_and_get_shorter(text: str) -> None:
    waiting = split("ä " + text, 1000)
    done: list[Piece] = []
    while waiting:
        piece = waiting.pop()
        halves = halve(piece)
        if len(piece.text) < 2:
            assert halves == [piece]
            done.append(piece)
            continue
        assert all(len(half.text) < len(piece.text) for half in halves)
        assert halves
        waiting += halves
    covered("ä " + text, done)


@pytest.mark.parametrize(
    ("text", "max_tokens", "expected"),
    [
        ("", 10, []),
        (" \n\t ", 10, []),
        ("  word  ", 10, ["word"]),
        ("one two. three four. five six. seven", 8, ["one two. three four.", "five six. seven"]),
        ("one two\nthree four\n\nfive six seven", 6, ["one two\nthree four", "five six seven"]),
        ("para one. more\n\n# Head\nrest of it", 7, ["para one. more", "# Head\nrest of it"]),
        ("one two three four five", 3, ["one two", "three four", "five"]),
        ("一二三。四五六。七八", 6, ["一二三。", "四五六。七八"]),
        ("f(a,b,c,d,e,f)", 6, ["f(a,b,", "c,d,e,", "f)"]),
    ],
)
def test_where_texts_are_cut(text: str, max_tokens: int, expected: list[str]) -> None:
    assert [piece.text for piece in split(text, max_tokens)] == expected


def test_neighbours_share_sentences_or_words() -> None:
    pieces = split(PROSE * 20, 60, 20)
    assert len(pieces) > 5
    for before, after in itertools.pairwise(pieces):
        assert after.start_byte < before.end_byte
        assert after.text.startswith(("The sky", "Its dust", "Is it", "It is"))
    pieces = split("word and next " * 200, 50, 10)
    for before, after in itertools.pairwise(pieces):
        assert after.start_byte < before.end_byte
        assert after.text.startswith(("word ", "and ", "next "))


@pytest.mark.parametrize("cluster", ["e\u0301\u0302", "👩‍🚀", "👍🏽", "नि"])
def test_letters_keep_their_marks(cluster: str) -> None:
    for max_tokens in range(8, 14):
        for piece in split(cluster * 100, max_tokens, 3):
            assert piece.text.startswith(cluster[0])
            assert piece.text.endswith(cluster[-1])


def test_offsets_count_bytes() -> None:
    first, second = split("äöü. 日本語 text", 4)
    assert (first.start_byte, first.end_byte) == (0, 7)
    assert (second.start_byte, second.end_byte) == (8, 22)


@pytest.mark.parametrize(
    "unit", ["x", "\u0301", "中", ".", "word ", "\n", "\n  ", "9", "# h\n", PROSE, "a\u200d"]
)
def test_work_grows_with_the_text_alone(unit: str) -> None:
    """300,000 characters, with and without blanks: quadratic work would outlast the suite."""
    text = unit * (300_000 // len(unit))
    pieces = split(text, 256, 32)
    assert sum(len(piece.text) for piece in pieces) <= 1.5 * len(text)
    assert bool(pieces) == bool(text.strip())


def test_an_overlap_that_repeats_the_text_too_often_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="overlap_tokens") as caught:
        split("word " * 20_000, 512, 511)
    assert caught.value.field == "chunking.overlap_tokens"
    assert split("word " * 300, 100, 99), "where the text is short it does no harm"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10, 14),
        ("def read(path: Path) -> str:", 8, 14),
        ("3.14159 2024-01-01", 8, 18),
        ("dGhpcyBpcyBhIHRlc3Qgb2YgYmFzZTY0IGVuY29kaW5n" * 5, 100, 250),
        ("Правительство", 6, 13),
        ("人工智能", 4, 4),
    ],
)
def test_estimates(text: str, least: int, most: int) -> None:
    assert least <= estimated_tokens(text) <= most
