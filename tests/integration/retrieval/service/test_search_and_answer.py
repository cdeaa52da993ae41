"""What is found, and answers from it."""

import grpc
import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from penstock.embedding.v1 import embedding_pb2 as embedding_pb
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1 import priority_pb2 as priority_pb
from penstock.inference.v1 import sampling_pb2 as sampling_pb
from penstock.retrieval.v1 import answer_pb2 as answer_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import prompt_pb2 as prompt_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import search_pb2 as search_pb

from tests.integration.reasons import reason
from tests.integration.retrieval.service.rag_platform import (
    PARENT,
    USER,
    Platform,
    broken,
    platform,
)

FACTS = {
    "mars": "The sky on Mars is red.",
    "earth": "The sky on Earth is blue.",
    "moon": "The sky over the Moon is black.",
    "cheese": "Cheese is made of milk.",
}
QUESTION = "What color is the sky on Mars?"
Mode = search_pb.SearchMode
ONE = {"collection_id": "Astronomy", "max_object_count": 1}


def ids(hits: list[search_pb.Hit]) -> list[str]:
    return [hit.document.rpartition("/")[2] for hit in hits]


async def facts(rag: Platform, id: str = "Astronomy") -> str:
    """The facts, with a property."""
    name = await rag.collection(id)
    documents = []
    for place, (key, text) in enumerate(FACTS.items()):
        document = document_pb.Document(name=key, text=text, title=key.title())
        document.properties.update({"rank": place, "kind": "food" if key == "cheese" else "sky"})
        documents.append(document)
    await rag.upsert(name, documents)
    return name


def chosen(property: str, operator: str, value: object) -> search_pb.Filter:
    made = search_pb.Comparison(
        property=property, operator=search_pb.Comparison.Operator.Value(f"OPERATOR_{operator}")
    )
    struct = Struct()
    struct["v"] = value
    made.value.CopyFrom(struct.fields["v"])
    return search_pb.Filter(comparison=made)


@pytest.mark.parametrize("mode", ["VECTOR", "TEXT", "HYBRID"])
async def test_every_mode_finds_the_passage(rag: Platform, mode: str) -> None:
    name = await facts(rag)
    request = pb.SearchRequest(
        collection=name, text="red sky on Mars", mode=Mode.Value(f"SEARCH_MODE_{mode}"), top_k=2
    )
    response = await rag.stub.Search(request, metadata=USER)
    best = response.hits[0]
    assert ids(response.hits)[0] == "mars"
    assert len(response.hits) == 2
    assert (best.text, best.title, best.start_byte, best.end_byte) == (
        FACTS["mars"],
        "Mars",
        0,
        len(FACTS["mars"]),
    )
    assert best.properties["kind"] == "sky"
    assert 0 <= response.hits[1].score <= best.score <= 1
    assert bool(response.embedded_token_count) == (mode != "TEXT")
    assert response.search_duration.ToNanoseconds() > 0


async def test_a_search_is_narrowed_as_it_asks(rag: Platform) -> None:
    name = await facts(rag)
    food = await rag.search(name, "sky", filter=chosen("kind", "EQUAL", "food"))
    assert ids(food) == ["cheese"]
    assert len(await rag.search(name, "sky", top_k=3)) == 3
    everything = await rag.search(name, "sky on Mars", exact=True)
    good = everything[1].score
    assert ids(await rag.search(name, "sky on Mars", min_score=good)) == ids(everything)[:2]
    [hit, *_] = await rag.search(name, "sky", include_vectors=True)
    values = np.frombuffer(hit.vector.values, "<f4")
    assert values.shape == (64,)
    by_vector = pb.SearchRequest(
        collection=name, vector=search_pb.Vector(values=hit.vector.values), top_k=1
    )
    response = await rag.stub.Search(by_vector, metadata=USER)
    assert response.hits[0].document == hit.document
    assert response.hits[0].distance == pytest.approx(0, abs=1e-5)
    assert response.embedded_token_count == 0


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("judge", embedding_pb.RERANK_METHOD_CROSS_ENCODER),
        ("", embedding_pb.RERANK_METHOD_CROSS_ENCODER),
        ("models/words", embedding_pb.RERANK_METHOD_EMBEDDING_SIMILARITY),
    ],
)
async def test_what_was_found_is_ordered_once_more(rag: Platform, model: str, method: int) -> None:
    name = await facts(rag)
    request = pb.SearchRequest(
        collection=name,
        text="the Moon",
        top_k=2,
        reranking=search_pb.Reranking(model=model, candidate_count=4),
    )
    response = await rag.stub.Search(request, metadata=USER)
    assert response.rerank_method == method
    assert ids(response.hits)[0] == "moon"
    assert len(response.hits) == 2
    if method == embedding_pb.RERANK_METHOD_CROSS_ENCODER:
        assert response.hits[0].score == 1.0, "it has every word of the query"


async def test_at_most_so_many_hits_of_one_document(rag: Platform) -> None:
    name = await rag.collection(chunking=collection_pb.Chunking(max_tokens=16, overlap_tokens=0))
    sent = [document_pb.Document(name=n, text=f"red {n} rocks. " * 40) for n in "ab"]
    await rag.upsert(name, sent)
    assert len(await rag.search(name, "red rocks", top_k=20)) > 4
    hits = await rag.search(name, "red rocks", top_k=20, max_hits_per_document=2)
    assert sorted(ids(hits)) == ["a", "a", "b", "b"]


WRONG_SEARCHES = [
    ({"vector": {"values": b"\0" * 64}}, ("INVALID_ARGUMENT", "vector.values")),
    (
        {"vector": {"values": np.full(64, np.nan, "<f4").tobytes()}},
        ("INVALID_ARGUMENT", "vector.values"),
    ),
    (
        {"vector": {"values": b"\0" * 256}, "mode": Mode.SEARCH_MODE_TEXT},
        ("INVALID_ARGUMENT", "mode"),
    ),
    (
        {"vector": {"values": b"\0" * 256}, "reranking": {}},
        ("INVALID_ARGUMENT", "reranking"),
    ),
    ({"text": "word " * 200}, ("CONTEXT_LENGTH_EXCEEDED", "text")),
    ({"text": "a\0"}, ("INVALID_ARGUMENT", "text")),
    ({"text": "sky", "reranking": {"model": "none"}}, ("MODEL_NOT_FOUND", "reranking.model")),
    (
        {"text": "sky", "priority": priority_pb.PRIORITY_HIGH},
        ("PERMISSION_DENIED", "priority"),
    ),
]


async def test_a_wrong_search_is_refused_by_its_field(rag: Platform) -> None:
    name = await facts(rag)
    for values, expected in WRONG_SEARCHES:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rag.stub.Search(pb.SearchRequest(collection=name, **values), metadata=USER)
        assert reason(raised.value) == expected, values


async def test_a_filter_is_nested_at_most_16_deep(rag: Platform) -> None:
    name = await facts(rag)
    filter = chosen("kind", "EQUAL", "sky")
    for _ in range(14):
        filter = search_pb.Filter(all_of=search_pb.FilterList(filters=[filter]))
    inside = search_pb.Filter()
    getattr(inside, "not").CopyFrom(filter)
    assert ids(await rag.search(name, "sky", filter=inside)) == ["cheese"]
    deeper = search_pb.Filter(any_of=search_pb.FilterList(filters=[inside]))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rag.search(name, "sky", filter=deeper)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_search_is_noted(rag: Platform) -> None:
    name = await facts(rag)
    get = pb.GetCollectionRequest(name=name)
    before = await rag.stub.GetCollection(get, metadata=USER)
    assert not before.HasField("last_search_time")
    await rag.search(name, "sky")
    await rag.domain.searching.close()
    after = await rag.stub.GetCollection(get, metadata=USER)
    assert after.last_search_time.ToMicroseconds() > before.create_time.ToMicroseconds()
    assert after.etag == before.etag


async def test_texts_are_looked_for_as_configured(tmp_path) -> None:
    async with platform(tmp_path, search_mode="hybrid") as rag:
        name = await facts(rag)
        found = await rag.search(name, "cheese milk")
        assert found == await rag.search(name, "cheese milk", mode=Mode.SEARCH_MODE_HYBRID)
        assert found[0].score == 1.0, "first by vectors and by words"


def question(query: str = QUESTION, **values: object) -> pb.AnswerRequest:
    context = values.pop("context", {"expression": "Astronomy", "max_object_count": 2})
    return pb.AnswerRequest(
        **{"parent": PARENT, "model": "echo", "query": query, "context": context, **values}
    )


async def answer(rag: Platform, request: pb.AnswerRequest) -> tuple[answer_pb.Retrieved, str]:
    """What was retrieved, and the text of the answer; checks the order of events."""
    events = [event async for event in rag.stub.Answer(request, metadata=USER)]
    assert events[0].HasField("retrieved")
    chat = [event.chat for event in events[1:]]
    assert chat[0].HasField("started")
    assert [c.WhichOneof("event") for c in chat][-2:] == ["finished", "done"]
    return events[0].retrieved, "".join(c.delta.text for c in chat if c.HasField("delta"))


async def rendered(rag: Platform, *messages: message_pb.Message) -> str:
    """What the echoing model answers to these messages."""
    request = inference_pb.ChatRequest(model="echo", messages=messages)
    response = await rag.inference.Chat(request, metadata=USER)
    return "".join(part.text for part in response.choices[0].message.parts)


def message(role: str, text: str) -> message_pb.Message:
    return message_pb.Message(role=message_pb.Role.Value(f"ROLE_{role}"), parts=[{"text": text}])


async def put(rag: Platform, id: str, *messages: message_pb.Message) -> prompt_pb.Prompt:
    prompt = prompt_pb.Prompt(name=f"{PARENT}/prompts/{id}", messages=messages)
    return await rag.stub.PutPrompt(pb.PutPromptRequest(prompt=prompt), metadata=USER)


async def test_an_answer_is_generated_from_what_was_found(rag: Platform) -> None:
    await facts(rag)
    retrieved, text = await answer(rag, question())
    assert ids(retrieved.hits)[0] == "mars"
    assert len(retrieved.hits) == 2
    assert retrieved.embedded_token_count > 0
    get = pb.GetPromptRequest(name=f"{PARENT}/prompts/builtin::rag-default")
    system, user = (await rag.stub.GetPrompt(get, metadata=USER)).messages
    context = "\n".join(hit.text for hit in retrieved.hits)
    expected = await rendered(
        rag,
        message("SYSTEM", system.parts[0].text.replace("{context}", context)),
        message("USER", user.parts[0].text.replace("{query}", QUESTION)),
    )
    assert text == expected
    assert QUESTION in text


async def test_a_prompt_is_put_together_from_its_parts(rag: Platform) -> None:
    await facts(rag)
    stored = await put(
        rag,
        "mine",
        message("SYSTEM", "Know {{this}}: {context}"),
        message("USER", "{query} | {context} | {{}}"),
        message("ASSISTANT", "{query} {as it is}"),
    )
    own = [message("ASSISTANT", "{context}"), message("USER", "and {query}?")]
    for name in ("mine", stored.uid):
        retrieved, text = await answer(
            rag,
            question(
                prompt={"name": f"{PARENT}/prompts/{name}", "custom_messages": own},
                safe_prompt=True,
            ),
        )
        context = "\n".join(hit.text for hit in retrieved.hits)
        known = [
            message("SYSTEM", f"Know {{this}}: {context}"),
            message("USER", f"{QUESTION} | {context} | {{}}"),
            message("ASSISTANT", "{query} {as it is}"),
            *own,
        ]
        assert text == await rendered(rag, *known)


async def test_messages_of_the_callers_own_are_sent_as_they_are(rag: Platform) -> None:
    await facts(rag)
    own = [message("USER", "only {context} {query}")]
    retrieved, text = await answer(rag, question(prompt={"custom_messages": own}))
    assert text == await rendered(rag, *own)
    assert retrieved.hits


CONTEXTS = [
    ({"collection_id": "Astronomy"}, ["mars", "earth", "moon", "cheese"]),
    ({"expression": "default::Astronomy", "max_object_count": 1}, ["mars"]),
    ({"expression": "(select Astronomy filter .kind = 'food')"}, ["cheese"]),
    (
        {
            "expression": "select Astronomy filter .rank >= <int64>$least limit 1",
            "variables": {"least": 1, "limit": 100, "input": []},
        },
        ["earth"],
    ),
    ({"expression": "Astronomy", "filter": "food"}, ["cheese"]),
    (
        {
            "expression": "select Astronomy filter .kind = global wanted",
            "globals": {"wanted": "sky"},
        },
        ["mars", "earth", "moon"],
    ),
    (
        {"collection_id": "Astronomy", "mode": Mode.SEARCH_MODE_TEXT, "max_object_count": 1},
        ["mars"],
    ),
    (
        {"collection_id": "Astronomy", "reranking": {"model": "judge"}, "max_object_count": 1},
        ["mars"],
    ),
]


async def test_the_context_selects_documents(rag: Platform) -> None:
    await facts(rag)
    for context, expected in CONTEXTS:
        made = dict(context)
        for name in ("variables", "globals"):
            if name in made:
                struct = Struct()
                struct.update(made[name])
                made[name] = struct
        if made.get("filter") == "food":
            made["filter"] = chosen("kind", "EQUAL", "food")
        retrieved, _ = await answer(rag, question(context=made))
        assert ids(retrieved.hits)[:1] == expected[:1], context
        assert sorted(ids(retrieved.hits)) == sorted(expected)


WRONG_QUESTIONS = [
    ({"context": {"expression": "Astronomy limit"}}, "INVALID_ARGUMENT", "context.expression"),
    ({"context": {"expression": "Nothing"}}, "NOT_FOUND", "context.expression"),
    ({"context": {"collection_id": "Nothing"}}, "NOT_FOUND", "context.collection_id"),
    (
        {"context": {"expression": "select Astronomy filter .kind = 'tool'"}},
        "FAILED_PRECONDITION",
        "context",
    ),
    ({"context": {"expression": "select Astronomy limit 0"}}, "FAILED_PRECONDITION", "context"),
    (
        {"context": {"expression": "select Astronomy filter .kind = <str>$x"}},
        "INVALID_ARGUMENT",
        "context.variables.x",
    ),
    (
        {"context": {"collection_id": "Astronomy", "min_score": 1.0}},
        "FAILED_PRECONDITION",
        "context",
    ),
    ({"prompt": {"name": f"{PARENT}/prompts/none"}}, "NOT_FOUND", "prompt.name"),
    ({"prompt": {"name": "tenants/acme/prompts/x"}}, "NOT_FOUND", "prompt.name"),
    ({"prompt": {}}, "MISSING_FIELD", "prompt.custom_messages"),
    ({"query": "word " * 200}, "CONTEXT_LENGTH_EXCEEDED", "query"),
    ({"model": "none"}, "MODEL_NOT_FOUND", "model"),
    ({"sampling": {"mirostat": 2}}, "UNSUPPORTED_PARAMETER", "sampling.mirostat"),
    (
        {"prompt": {"custom_messages": [message("USER", "x" * 9000)]}},
        "CONTEXT_LENGTH_EXCEEDED",
        "prompt",
    ),
    (
        {
            "prompt": {
                "custom_messages": [
                    message("USER", "x"),
                    {"role": 2, "parts": [{"image": {"data": b"x"}}]},
                ]
            }
        },
        "UNSUPPORTED_PARAMETER",
        "prompt.custom_messages[1].parts[0].image",
    ),
]


async def test_a_wrong_question_is_refused_by_its_field(rag: Platform) -> None:
    await facts(rag)
    for values, code, field in WRONG_QUESTIONS:
        _, error = await broken(rag.stub.Answer(question(**values), metadata=USER))
        assert reason(error) == (code, field), error.details()


async def test_what_the_chat_is_asked_reaches_it(rag: Platform) -> None:
    await facts(rag)
    request = question(
        model="models/echo",
        sampling=sampling_pb.Sampling(max_tokens=5, n=2, stop=["zzz"]),
        user="someone",
        request_id="mine",
        prompt={"custom_messages": [message("USER", "hello world")]},
    )
    events = [event async for event in rag.stub.Answer(request, metadata=USER)]
    texts = {0: "", 1: ""}
    for event in events[1:]:
        texts[event.chat.delta.index] += event.chat.delta.text
    assert texts == {0: "hello", 1: "hello"}
    assert events[-1].chat.done.usage.completion_tokens == 10
