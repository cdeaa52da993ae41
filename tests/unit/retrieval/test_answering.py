"""What a model is told, and in which order; over a real store."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1 import sampling_pb2 as sampling_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb

from services.errors import DomainError, FailedPrecondition, Unavailable, UnsupportedParameter
from services.retrieval.answering import Answering, Question, Retrieved, Source, default_prompt
from services.retrieval.convert_search import to_chat
from services.retrieval.names import CollectionRef, PromptRef
from services.retrieval.prompts import SAFE_MESSAGE, Message, NewPrompt, Prompts
from services.retrieval.records import Chunk, Chunking, Collection, Metric, NewDocument
from services.retrieval.searching import Query, Searching
from services.retrieval.store import Store
from services.retrieval.stores import open_store
from services.settings import RetrievalSettings
from tests.unit.retrieval.word_embedder import NOBODY, WordEmbedder, vector

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = {"mars": "red {sky} on mars", "earth": "blue sky", "cheese": "yellow cheese"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'r.db'}"
    async with aclosing(_Closing(await open_store(url, RetrievalSettings(address="")))) as opened:
        await _fill(opened.store)
        yield opened.store


class _Closing:
    def __init__(self, store: Store) -> None:
        self.store = store

    async def aclose(self) -> None:
        await self.store.close()


async def _fill(store: Store) -> None:
    made = Collection(
        "t", "Sky", "uid", "m", 64, Metric.COSINE, "Sky", Chunking(64), (), {}, NOW, NOW, "e"
    )
    collection = await store.create_collection(made)
    documents = []
    for id, text in TEXTS.items():
        chunk = Chunk(0, text, 0, len(text), vector(text))
        sha = hashlib.sha256(text.encode()).hexdigest()
        documents.append(NewDocument(id, "", text, "text/plain", {}, "", sha, 3, [chunk]))
    await store.put_documents(collection.uid, documents)


class Model:
    """Notes what it is told and says what it is given to say."""

    def __init__(self, says: Sequence[str] = ("a", "b"), fails: DomainError | None = None) -> None:
        self.told: list[Message] = []
        self.closed = False
        self._says = says
        self._fails = fails

    async def talk(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        self.told = list(messages)
        try:
            for word in self._says:
                yield word
            if self._fails is not None:
                raise self._fails
        finally:
            self.closed = True


def answering(store: Store) -> Answering:
    return Answering(store, Searching(store, WordEmbedder()), Prompts(store))


def question(prompt: PromptRef | None, *, safe: bool = False, has_messages: bool = False):
    query = Query(text="red sky", top_k=2)
    return Question("t", Source(collection_id="Sky"), query, prompt, has_messages, safe)


def message(role: str, text: str) -> Message:
    return {"role": f"ROLE_{role}", "parts": [{"text": text}]}


async def test_the_default_prompt_holds_context_and_query(store: Store) -> None:
    model = Model()
    asked = question(default_prompt("t"), safe=True)
    events = [e async for e in answering(store).answer(asked, model.talk, NOBODY)]
    retrieved, *words = events
    assert isinstance(retrieved, Retrieved)
    assert [hit.document for hit in retrieved.found.hits] == ["mars", "earth"]
    assert words == ["a", "b"]
    safe, system, user = model.told
    assert safe == SAFE_MESSAGE
    assert system["role"] == "ROLE_SYSTEM"
    text = system["parts"][0]["text"]  # type: ignore[index, call-overload]
    assert "\nred {sky} on mars\nblue sky\n" in text, "texts in the order of the hits, a line each"
    assert user == message("USER", "Query: red sky\nAnswer: ")


async def test_stored_messages_stay_in_their_order(store: Store) -> None:
    stored = (
        message("ASSISTANT", "{context}"),
        message("USER", "{query}: {context}"),
        message("SYSTEM", "{{context}}"),
    )
    ref = PromptRef("t", "mine")
    await Prompts(store).put(NewPrompt(ref, stored))
    model = Model()
    async for _ in answering(store).answer(question(ref), model.talk, NOBODY):
        pass
    assert model.told == [
        message("ASSISTANT", "{context}"),
        message("USER", "red sky: red {sky} on mars\nblue sky"),
        message("SYSTEM", "{context}"),
    ]


async def test_without_a_stored_prompt_nothing_is_put_in_front(store: Store) -> None:
    model = Model()
    asked = question(None, has_messages=True)
    events = [e async for e in answering(store).answer(asked, model.talk, NOBODY)]
    assert len(events) == 3
    assert model.told == []


async def test_closing_an_answer_closes_the_chat(store: Store) -> None:
    model = Model(["x"] * 100)
    async with aclosing(
        answering(store).answer(question(default_prompt("t")), model.talk, NOBODY)
    ) as events:
        await anext(events)
        await anext(events)
        assert not model.closed
    assert model.closed


async def test_nothing_found_is_told_before_the_model_is_asked(store: Store) -> None:
    model = Model()
    ref = CollectionRef("t", "Sky")
    collection = await store.collection(*ref)
    await store.delete_documents(collection.uid, ids=list(TEXTS))
    events = answering(store).answer(question(default_prompt("t")), model.talk, NOBODY)
    with pytest.raises(FailedPrecondition):
        await anext(events)
    assert not model.told


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (Unavailable("away", retry_after_s=3.0), None),
        (UnsupportedParameter("no", field="sampling.top_k"), "sampling.top_k"),
        (UnsupportedParameter("no", field="messages"), "prompt"),
        (UnsupportedParameter("no", field="messages[1].parts[0]"), "prompt"),
        (
            UnsupportedParameter("no", field="messages[4].parts[0]"),
            "prompt.custom_messages[2].parts[0]",
        ),
    ],
)
async def test_errors_of_the_chat_name_the_questions_fields(
    store: Store, error: DomainError, field: str | None
) -> None:
    model = Model(["x"], error)
    asked = question(default_prompt("t"), has_messages=True)
    events = answering(store).answer(asked, model.talk, NOBODY)
    assert isinstance(await anext(events), Retrieved)
    assert await anext(events) == "x"
    with pytest.raises(type(error)) as raised:
        await anext(events)
    assert raised.value.field == field
    assert raised.value.message == error.message
    assert raised.value.retry_after_s == error.retry_after_s
    assert raised.value.metadata.get("param") == field


def test_a_chat_asks_for_all_that_the_question_does() -> None:
    """Every field that both requests have goes over."""
    request = pb.AnswerRequest(
        parent="tenants/t",
        model="m",
        query="q",
        sampling=sampling_pb.Sampling(temperature=0, seed=0, logit_bias={3: 1.0}),
        tools=[message_pb.Tool(name="f")],
        tool_choice=message_pb.ToolChoice(mode=message_pb.ToolChoice.MODE_NAMED, name="f"),
        guide=sampling_pb.Guide(regex="a"),
        user="u",
        priority=1,
        request_id="r",
    )
    own = request.prompt.custom_messages.add(role=message_pb.ROLE_USER)
    own.parts.add().image.data = b"\0png"
    stored = message("USER", "stored")
    chat = to_chat(request, [stored])
    assert list(chat.messages) == [ParseDict(dict(stored), message_pb.Message()), own]
    shared = {f.name for f in chat.DESCRIPTOR.fields} & {f.name for f in request.DESCRIPTOR.fields}
    assert shared >= {"sampling", "tools", "tool_choice", "guide", "user", "priority", "request_id"}
    for name in shared:
        assert getattr(chat, name) == getattr(request, name), name
    bare = to_chat(pb.AnswerRequest(model="m"), [])
    assert [f.name for f, _ in bare.ListFields()] == ["model"]
