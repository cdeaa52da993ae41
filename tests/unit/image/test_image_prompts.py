"""Prompts in which words weigh."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import DomainError, InvalidArgument, UnsupportedParameter
from services.image.prompts import Part, weighted


def pairs(text: str) -> list[tuple[str, float]]:
    [stretch] = weighted(text)
    return [(part.text, pytest.approx(part.weight)) for part in stretch]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 1)]),
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("a (red:1.5) cat", [("a ", 1), ("red", 1.5), (" cat", 1)]),
        ("a (red: -0.5 )", [("a ", 1), ("red", -0.5)]),
        ("((a)) [b]", [("a", 1.21), (" ", 1), ("b", 1 / 1.1)]),
        ("((a:2)b:0.5)", [("a", 1), ("b", 0.5)]),
        ("(a:b:1.2)", [("a:b", 1.2)]),
        (r"\(a\) \[b\] \\ \c", [(r"(a) [b] \ \c", 1)]),
        ("a) (b", [("a) ", 1), ("b", 1.1)]),
        ("[a", [("a", 1 / 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3)", 1.1)]),
        ("a:1.2)", [("a:1.2)", 1)]),
    ],
)
def test_brackets_weigh(text: str, expected: list[tuple[str, float]]) -> None:
    assert pairs(text) == expected


def test_break_begins_a_piece() -> None:
    assert weighted("a BREAK (b) BREAKFAST") == [
        [Part("a")],
        [Part("b", 1.1), Part(" BREAKFAST")],
    ]


@pytest.mark.parametrize("text", ["x [a:b:0.5]", "a AND b", "[a:0.5]", "[a|b]"])
def test_what_would_do_more_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        weighted(text, "hires.prompt")
    assert caught.value.field == "hires.prompt"


@pytest.mark.parametrize("text", ["(" * 101 + "a", "(((a:100):100):100)"])
def test_what_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        weighted(text)


@given(st.text(alphabet="ab ()[]:.1\\<>|BREAKND", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        stretches = weighted(text)
    except DomainError:
        return
    assert stretches
    assert all(stretches)


@given(st.text(alphabet="abc ,.!é", max_size=60))
def test_text_without_brackets_is_itself(text: str) -> None:
    assert weighted(text) == [[Part(text)]]


def test_many_brackets_take_no_time() -> None:
    assert len(weighted("(a)" * 20_000)[0]) == 1
