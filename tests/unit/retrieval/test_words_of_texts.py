from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.indexes.words import MOST_QUERY_WORDS, query_words, words
from services.retrieval.stores.patterns import folded, matcher


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("What color is the sky?", "what color is the sky"),
        ("Ärger, naïve CAFÉ; STRASSE Straße", "arger naive cafe strasse strasse"),
        ("snake_case kebab-case 3.14 x2", "snake case kebab case 3 14 x2"),
        ("火星の空 mars", "火 星 の 空 mars"),
        ("한국어 नमस्ते สวัสดี Привет", "한국어 नमस्ते สวัสดี привет"),
        ("", ""),
        ("x" * 300, "x" * 256),
        ("İstanbul ﬁne ①", "istanbul fine 1"),
    ],
)
def test_words(text, wanted):
    assert words(text) == wanted.split()


@settings(deadline=None)
@given(st.text())
def test_words_are_safe_to_join_and_to_quote(text):
    found = words(text)
    assert not {*"\"\\ \0'"} & set("".join(found))
    assert words(" ".join(found)) == found
    assert len(query_words(text)) <= MOST_QUERY_WORDS


# The table of cases is made once, which takes a while.
@settings(deadline=None)
@given(st.text())
def test_folding_keeps_places(text):
    assert len(folded(text)) == len(text)
    assert folded(folded(text)) == folded(text)


def test_a_mean_pattern_takes_no_time():
    assert not matcher("%a" * 40 + "b").fullmatch("a" * 20_000)
    assert matcher("%a" * 40).fullmatch("a" * 20_000)
