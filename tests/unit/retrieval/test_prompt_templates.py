import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.prompts import RAG_DEFAULT, fill
from services.retrieval.templates import parse

VALUES = {"context": "{query} }{ {{", "query": "{context}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{context}", VALUES["context"]),
        ("a {query}\nb", "a {context}\nb"),
        ("{{context}}", "{context}"),
        ("{{{context}}}", "{" + VALUES["context"] + "}"),
        ("{{}} }}{{", "{} }{"),
        ('{{"a": {query}}}', '{"a": {context}}'),
    ],
)
def test_places_are_filled_once_and_double_braces_become_single(text: str, filled: str) -> None:
    assert parse(text).fill(VALUES) == filled


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", 1),
        ("}", 1),
        ("a{}", 2),
        ("{other}", 1),
        ("{context!r}", 1),
        ("{ query }", 1),
        ("{query.x}", 1),
        ("{{{", 3),
        ("{context}}", 10),
    ],
)
def test_what_cannot_be_filled_is_refused_with_its_place(text: str, place: int) -> None:
    with pytest.raises(InvalidArgument, match=f"at character {place} ") as raised:
        parse(text, field="prompt.messages[0].parts[0].text")
    assert raised.value.field == "prompt.messages[0].parts[0].text"


def test_system_messages_know_no_query() -> None:
    with pytest.raises(InvalidArgument, match=r"\{context\} can"):
        parse("{query}", names={"context"}, field="f")


@given(st.text())
def test_any_text_can_be_said_with_doubled_braces(text: str) -> None:
    assert parse(text.replace("{", "{{").replace("}", "}}")).fill({}) == text


@given(st.text(st.sampled_from("{}context query"), max_size=30))
def test_texts_are_read_as_format_strings_are(text: str) -> None:
    """The rules are those of format strings, without what can stand behind a name."""
    try:
        expected = text.format(context="C", query="Q")
    except (ValueError, KeyError, IndexError):
        expected = None
    try:
        found = parse(text).fill({"context": "C", "query": "Q"})
    except InvalidArgument:
        found = None
    assert found == expected


def message(role: str, *texts: str) -> dict[str, object]:
    return {"role": f"ROLE_{role}", "parts": [{"text": text} for text in texts]}


def test_messages_are_filled_by_their_role() -> None:
    image = {"image": {"data": "AA==", "mime_type": "image/png"}}
    user = {"role": "ROLE_USER", "parts": [{"text": "{query}?"}, image, {"text": "{context}"}]}
    stored = [
        message("SYSTEM", "know: {context}"),
        user,
        message("ASSISTANT", "{query} {"),
        {"role": "ROLE_TOOL", "tool_call_id": "1", "parts": [{"text": "{context}"}]},
    ]
    assert fill(stored, context="C", query="Q") == [  # type: ignore[arg-type]
        message("SYSTEM", "know: C"),
        {"role": "ROLE_USER", "parts": [{"text": "Q?"}, image, {"text": "C"}]},
        message("ASSISTANT", "{query} {"),
        {"role": "ROLE_TOOL", "tool_call_id": "1", "parts": [{"text": "{context}"}]},
    ]


def test_the_default_prompt_has_an_id_of_penstocks_own() -> None:
    assert RAG_DEFAULT == "builtin::rag-default"
