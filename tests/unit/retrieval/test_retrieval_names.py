import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval import names
from services.retrieval.names import CollectionRef, DocumentRef, PromptRef

PART = st.text(
    st.characters(exclude_characters="/*", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40
)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PARSERS = (
    names.parse_tenant,
    names.parse_collection,
    names.parse_document,
    names.parse_prompt,
)


@given(PART, PART, st.lists(PART, min_size=1, max_size=3))
def test_names_survive_the_way_there_and_back(tenant: str, id: str, path: list[str]) -> None:
    collection = CollectionRef(tenant, id)
    assert names.parse_collection(collection.name, "name") == collection
    document = DocumentRef(collection, "/".join(path))
    assert names.parse_document(document.name, "name") == document
    prompt = PromptRef(tenant, id)
    assert names.parse_prompt(prompt.name, "name") == prompt
    assert names.parse_tenant(f"tenants/{tenant}", "parent") == tenant


@given(
    st.one_of(
        ANY,
        st.lists(
            st.sampled_from(["tenants", "collections", "documents", "prompts", "a", "", "\0", "*"]),
            max_size=8,
        ).map("/".join),
    )
)
def test_other_texts_are_refused_by_the_fields_path(text: str) -> None:
    for parse in PARSERS:
        try:
            parsed = parse(text, "the.field")
        except InvalidArgument as error:
            refused = error.field
        else:
            refused = None
            again = text if isinstance(parsed, str) else parsed.name
            assert text in (again, f"tenants/{parsed}")
            assert "\0" not in text
        assert refused in (None, "the.field")


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("a", "a"),
        ("docs/a b.md", "docs/a b.md"),
        ("tenants/t/collections/c/documents/x/y", "x/y"),
        ("tenants/t/collections/c", "tenants/t/collections/c"),
        ("tenants/t/collections/c/documents/", "tenants/t/collections/c/documents/"),
    ],
)
def test_documents_are_named_by_id_or_in_full(name: str, id: str) -> None:
    assert names.check_document_id(name, CollectionRef("t", "c"), "document.name") == id


def test_a_document_without_a_name_gets_one() -> None:
    made = {names.check_document_id("", CollectionRef("t", "c"), "f") for _ in range(8)}
    assert len(made) == 8
    assert all(names.is_uid(id) for id in made)


@pytest.mark.parametrize("id", ["", "a b", "a/b", "a\tb", "x" * 129, "a\x7f", "\u3000"])
def test_collection_ids_are_checked(id: str) -> None:
    with pytest.raises(InvalidArgument):
        names.check_collection_id(id, "collection_id")


def test_new_collection_ids_are_ids() -> None:
    id = names.new_collection_id()
    assert names.check_collection_id(id, "f") == id
    assert id.startswith("vs_")
    assert len(id) == 27
