"""Scenarios with openai-python 1.x and 3.x, each run by the client's own environment.

`python openai_session.py SCENARIO URL KEY`; a failed assertion is a failed test.
"""

import json
import pathlib
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Literal

import openai
import pydantic

MODEL = "penstock-starter"
EMBEDDER = "all-minilm-l6-v2"
FACTS = "facts-of-the-tests"
"""A vector store that the tests filled."""
HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "Tell me a story"}]


def models(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids, ids
    assert "org/starter" in ids, ids
    model = client.models.retrieve("org/starter")
    assert model.id == "org/starter"
    assert model.object == "model"
    assert isinstance(model.created, int)


def chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert answer.id.startswith("chatcmpl-")
    assert len(answer.id) == len("chatcmpl-") + 24
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def reuse(client: openai.OpenAI) -> None:
    """A prompt that was read a moment ago is not read again, but for its last token."""
    long = [{"role": "user", "content": "Tell me a story about a fox. " * 8}]
    for _ in range(2):
        answer = client.chat.completions.create(model=MODEL, messages=long, max_tokens=1)
    usage = answer.model_dump()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


def stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=STORY,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not chunks[0].choices[0].delta.content
    assert all(c.choices[0].delta.role is None for c in chunks[1:] if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    assert whole.usage is not None
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(usage, count) == getattr(whole.usage, count)
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1
    assert len({c.created for c in chunks}) == 1
    bare = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stream=True)
    )
    assert all(c.choices for c in bare)
    assert all(c.usage is None for c in bare)


def stream_helper(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    owner = chat if hasattr(chat, "stream") else client.beta.chat.completions
    with owner.stream(model=MODEL, messages=HELLO, temperature=0) as events:
        for _ in events:
            pass
        final = events.get_final_completion()
    assert final.choices[0].message.content


def raw_stream(client: openai.OpenAI) -> None:
    response = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=4
    )
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.parse().choices[0].finish_reason in {"length", "stop"}


def completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["Once upon", "The capital"], max_tokens=5, temperature=0, n=1
    )
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 10
    parts = list(
        client.completions.create(
            model=MODEL, prompt="Once upon", max_tokens=5, temperature=0, stream=True
        )
    )
    assert "".join(p.choices[0].text for p in parts) == answer.choices[0].text
    echo = client.completions.create(
        model=MODEL, prompt="Once upon", max_tokens=0, echo=True, logprobs=2
    )
    assert echo.choices[0].text == "Once upon"
    scores = echo.choices[0].logprobs
    assert scores is not None
    assert scores.token_logprobs is not None
    assert scores.token_logprobs[0] is None
    assert all(value <= 0 for value in scores.token_logprobs[1:])
    assert "".join(scores.tokens or []) == "Once upon"


def refusal(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def errors(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    stranger = client.with_options(api_key="wrong")
    error = refusal(openai.AuthenticationError, stranger.models.list)
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    error = refusal(openai.NotFoundError, lambda: chat.create(model="nope", messages=HELLO))
    assert error.code == "model_not_found"
    for field, value, code in (
        ("temperature", 3, "decimal_above_max_value"),
        ("n", 0, "integer_below_min_value"),
        ("messages", "hi", "invalid_type"),
        ("top_logprobs", 3, "invalid_value"),
    ):
        arguments: Any = {"model": MODEL, "messages": HELLO, field: value}
        error = refusal(openai.BadRequestError, lambda given=arguments: chat.create(**given))
        assert (error.param, error.code) == (field, code)
        assert error.type == "invalid_request_error"
    long = [{"role": "user", "content": "word " * 20000}]
    error = refusal(openai.BadRequestError, lambda: chat.create(model=MODEL, messages=long))
    assert error.code == "context_length_exceeded"


def logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, temperature=0, logprobs=True, top_logprobs=3, max_tokens=5
    )
    content = answer.choices[0].logprobs.content
    assert "".join(bytes(t.bytes).decode() for t in content) == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-4
        assert token.logprob <= 0


def many(client: openai.OpenAI) -> None:
    arguments = {"model": MODEL, "messages": STORY, "n": 3, "seed": 7, "max_tokens": 12}
    first = client.chat.completions.create(**arguments)
    second = client.chat.completions.create(**arguments)
    assert [c.index for c in first.choices] == [0, 1, 2]
    assert [c.message.content for c in first.choices] == [c.message.content for c in second.choices]
    assert first.system_fingerprint == second.system_fingerprint
    texts: dict[int, str] = {}
    for chunk in client.chat.completions.create(**arguments, stream=True):
        choice = chunk.choices[0]
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert [texts[i] for i in range(3)] == [c.message.content for c in first.choices]


def stop(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0)
    text = whole.choices[0].message.content
    word = text.split()[3]
    cut = client.chat.completions.create(model=MODEL, messages=STORY, temperature=0, stop=word)
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"
    limited = client.chat.completions.create(
        model=MODEL, messages=STORY, temperature=0, max_completion_tokens=3
    )
    assert limited.choices[0].finish_reason == "length"
    assert limited.usage.completion_tokens == 3


def tools(client: openai.OpenAI) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Gets the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    ask = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ask,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert call.id.startswith("call_")
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason in {"tool_calls", "stop"}


class Colour(pydantic.BaseModel):
    name: Literal["red", "green"]
    share: int = pydantic.Field(ge=0, le=100)


class Palette(pydantic.BaseModel):
    colours: list[Colour] = pydantic.Field(max_length=2)
    best: Colour | None
    sure: bool


def parse(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    owner = chat if hasattr(chat, "parse") else client.beta.chat.completions
    ask = [{"role": "user", "content": "Which colours do you like?"}]
    for temperature in (0, 1):
        answer = owner.parse(
            model=MODEL,
            messages=ask,
            response_format=Palette,
            temperature=temperature,
            n=2,
            seed=3,
            max_tokens=300,
        )
        for choice in answer.choices:
            assert choice.finish_reason == "stop"
            assert isinstance(choice.message.parsed, Palette)
            assert list(json.loads(choice.message.content)) == ["colours", "best", "sure"]


def json_mode(client: openai.OpenAI) -> None:
    arguments = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say hello as JSON."}],
        "response_format": {"type": "json_object"},
        "max_tokens": 120,
        "seed": 4,
    }
    whole = client.chat.completions.create(**arguments)
    text = whole.choices[0].message.content
    assert text.startswith("{")
    if whole.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert whole.choices[0].finish_reason == "length"
    chunks = client.chat.completions.create(**arguments, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text


def _tool(name: str, **properties: object) -> dict[str, object]:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": "Does it.", "parameters": parameters, "strict": True}
    return {"type": "function", "function": function}


CITY = {"enum": ["Paris", "Rome"]}
TWO = [_tool("get_weather", city=CITY), _tool("get_time", city=CITY, utc={"type": "boolean"})]


def _check_call(call: Any) -> None:
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in CITY["enum"]
    expected = {"get_weather": ["city"], "get_time": ["city", "utc"]}[call.function.name]
    assert list(arguments) == expected


def required(client: openai.OpenAI) -> None:
    for parallel in (True, False):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            tools=TWO,
            tool_choice="required",
            parallel_tool_calls=parallel,
            n=3,
            seed=5,
            temperature=1,
            max_tokens=300,
        )
        for choice in answer.choices:
            assert choice.message.content is None
            calls = choice.message.tool_calls
            assert calls
            if choice.finish_reason == "tool_calls":
                for call in calls:
                    _check_call(call)
            assert parallel or len(calls) == 1
            assert parallel or choice.finish_reason == "tool_calls"


def strict_tools(client: openai.OpenAI) -> None:
    choices = [{"type": "function", "function": {"name": "get_time"}}, "auto"]
    for choice in choices:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "What time is it in Rome?"}],
            tools=TWO,
            tool_choice=choice,
            temperature=0,
            max_tokens=200,
        )
        for call in answer.choices[0].message.tool_calls or ():
            _check_call(call)
        assert choice == "auto" or answer.choices[0].finish_reason in {"tool_calls", "stop"}


def refused_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    error = refusal(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=HELLO, response_format=form),
    )
    assert error.param == "response_format.json_schema.schema.properties.a.not", error.param
    form["json_schema"]["strict"] = True
    schema["properties"] = {"a": {"type": "string"}}
    schema["additionalProperties"] = True
    error = refusal(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=HELLO, response_format=form),
    )
    assert error.param == "response_format.json_schema.schema.additionalProperties", error.param


def disconnect(client: openai.OpenAI) -> None:
    """An answer whose reader left is not written to its end: the platform counts those that are."""
    before = queue(client)["completed_jobs_24h"]
    for _ in range(3):
        events = client.chat.completions.create(
            model=MODEL,
            messages=STORY,
            max_tokens=1900,
            stream=True,
            logit_bias={},
            extra_body={"ignore_eos": True},
        )
        next(iter(events))
        events.close()
    deadline = time.monotonic() + 60
    while queue(client)["queue_depth"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert queue(client)["completed_jobs_24h"] == before
    assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).choices
    assert queue(client)["completed_jobs_24h"] == before + 1


def queue(client: openai.OpenAI) -> dict[str, Any]:
    """What the platform does now, and has done."""
    place = str(client.base_url).removesuffix("/v1/") + "/queue/status"
    request = urllib.request.Request(place, headers=client.auth_headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def norm(vector: list[float]) -> float:
    return sum(value * value for value in vector) ** 0.5


def embeddings(client: openai.OpenAI) -> None:
    """Base64, which the client asks for by default and decodes, and numbers say the same."""
    text = "The sky on Mars is red."
    answer = client.embeddings.create(model=EMBEDDER, input=text)
    (item,) = answer.data
    assert (answer.object, item.object, item.index) == ("list", "embedding", 0)
    assert len(item.embedding) == 384
    assert abs(norm(item.embedding) - 1) < 1e-3
    assert answer.model == EMBEDDER
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 5
    numbers = client.embeddings.create(model=EMBEDDER, input=text, encoding_format="float")
    near = zip(numbers.data[0].embedding, item.embedding, strict=True)
    assert all(abs(a - b) < 1e-6 for a, b in near)
    raw = client.embeddings.with_raw_response.create(
        model=EMBEDDER, input=text, encoding_format="base64"
    )
    encoded = json.loads(raw.text if isinstance(raw.text, str) else raw.text())
    assert isinstance(encoded["data"][0]["embedding"], str)
    assert raw.headers["content-type"] == "application/json"


def embedding_batch(client: openai.OpenAI) -> None:
    texts = ["a red planet", "short", "a red planet", "The sea is deep and cold. " * 6]
    answer = client.embeddings.create(model=EMBEDDER, input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    vectors = [item.embedding for item in answer.data]
    near = sum(a * b for a, b in zip(vectors[0], vectors[2], strict=True))
    far = sum(a * b for a, b in zip(vectors[0], vectors[3], strict=True))
    assert near > 0.999 > far
    single = [client.embeddings.create(model=EMBEDDER, input=text) for text in texts]
    assert answer.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in single)
    for whole, one in zip(vectors, single, strict=True):
        close = sum(a * b for a, b in zip(whole, one.data[0].embedding, strict=True))
        assert close > 0.999
    tokens = client.embeddings.create(model=EMBEDDER, input=[[101, 2417, 102], [101, 102]])
    assert len(tokens.data) == 2


def embedding_errors(client: openai.OpenAI) -> None:
    make = client.embeddings.create
    for changes, param in (
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[101, 10**6]]}, "input[0][1]"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 100}, "dimensions"),
        ({"input": "word " * 5000}, "input"),
    ):
        arguments: Any = {"model": EMBEDDER, "input": "x", **changes}
        error = refusal(openai.BadRequestError, lambda given=arguments: make(**given))
        assert error.param == param, (changes, error.param, error.message)
        assert error.type == "invalid_request_error"
    error = refusal(openai.NotFoundError, lambda: make(model="nope", input="x"))
    assert error.code == "model_not_found"


def vector_stores(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    after = {"anchor": "last_active_at", "days": 7}
    made = stores.create(name="first", metadata={"team": "a"}, expires_after=after)
    assert made.id.startswith("vs_")
    assert (made.object, made.name, made.status) == ("vector_store", "first", "completed")
    assert made.metadata == {"team": "a"}
    assert made.file_counts.total == 0
    assert made.expires_after is not None
    assert made.expires_at == made.last_active_at + 7 * 24 * 60 * 60
    others = [stores.create(name=f"other {number}").id for number in range(3)]
    listed = [store.id for store in stores.list(limit=2)]  # the client turns the pages
    assert listed[:4] == [*others[::-1], made.id]
    oldest = [store.id for store in stores.list(order="asc")]
    assert oldest == listed[::-1]
    changed = stores.update(made.id, name="second", metadata={"team": "b"})
    assert (changed.name, changed.metadata) == ("second", {"team": "b"})
    assert changed.expires_after is not None
    assert stores.retrieve(made.id).name == "second"
    assert list(stores.search(made.id, query="anything")) == []
    assert list(stores.files.list(made.id)) == []
    error = refusal(openai.NotFoundError, lambda: stores.files.create(made.id, file_id="file-none"))
    assert error.param == "file_id"
    for store_id in (made.id, *others):
        gone = stores.delete(store_id)
        assert (gone.id, gone.object, gone.deleted) == (store_id, "vector_store.deleted", True)
    refusal(openai.NotFoundError, lambda: stores.retrieve(made.id))
    refusal(openai.NotFoundError, lambda: stores.search(made.id, query="x"))
    error = refusal(openai.BadRequestError, lambda: stores.list(limit=0))
    assert error.param == "limit"


LINES = b'{"messages": [{"role": "user", "content": "Hi"}]}\n' * 50


def files(client: openai.OpenAI) -> None:
    made = client.files.create(file=("lines.jsonl", LINES), purpose="fine-tune")
    assert made.id.startswith("file-")
    assert len(made.id) == len("file-") + 24
    assert (made.object, made.bytes, made.status) == ("file", len(LINES), "processed")
    assert (made.filename, made.purpose) == ("lines.jsonl", "fine-tune")
    assert made.expires_at is None
    assert client.files.retrieve(made.id) == made
    # A file on disk, bytes and an open file: three forms on the wire.
    here = pathlib.Path(__file__)
    path = client.files.create(file=here, purpose="user_data")
    with here.open("rb") as opened:
        named = client.files.create(file=opened, purpose="assistants")
    nameless = client.files.create(file=b"some bytes", purpose="batch")
    assert (path.filename, named.filename, nameless.filename) == (here.name, here.name, "upload")
    content = client.files.content(path.id)
    assert content.read() == here.read_bytes()
    with client.files.with_streaming_response.content(path.id) as response:
        assert response.headers["content-type"] == "application/octet-stream"
        assert b"".join(response.iter_bytes(1000)) == here.read_bytes()
    span: Any = {"anchor": "created_at", "seconds": 3600}
    brief = client.files.create(
        file=b"x", purpose="evals", extra_body={f"expires_after[{k}]": v for k, v in span.items()}
    )
    assert brief.expires_at == brief.created_at + 3600
    mine = [brief.id, nameless.id, named.id, path.id, made.id]
    listed = [file.id for file in client.files.list(limit=2)]  # the client turns the pages
    assert [id_ for id_ in listed if id_ in mine] == mine
    listed = [file.id for file in client.files.list(order="asc", purpose="batch")]
    assert nameless.id in listed
    assert made.id not in listed
    assert client.files.wait_for_processing(made.id).status == "processed"
    upload: Any = client.files.create
    error = refusal(openai.BadRequestError, lambda: upload(file=b"x", purpose="search"))
    assert error.param == "purpose"
    for file_id in mine:
        gone = client.files.delete(file_id)
        assert (gone.id, gone.object, gone.deleted) == (file_id, "file", True)
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        error = refusal(openai.NotFoundError, lambda call=call: call(made.id))
        assert error.type == "invalid_request_error"
        assert made.id in error.message


def attached_files(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    mars = client.files.create(
        file=("mars.md", b"# Mars\n\nThe sky on Mars is red."), purpose="assistants"
    )
    sea = client.files.create(file=("sea.txt", b"The sea is deep."), purpose="assistants")
    store = stores.create(name="attached", file_ids=[sea.id])
    assert store.file_counts.completed == 1
    made = stores.files.create_and_poll(mars.id, vector_store_id=store.id)
    assert (made.id, made.status, made.last_error) == (mars.id, "completed", None)
    (found,) = stores.search(store.id, query="What color is the sky on Mars?", max_num_results=1)
    assert (found.file_id, found.filename) == (mars.id, "mars.md")
    assert "red" in found.content[0].text
    attached = stores.files.upload_and_poll(
        vector_store_id=store.id, file=("earth.txt", b"The sky on Earth is blue.")
    )
    assert attached.status == "completed"
    assert {file.id for file in stores.files.list(store.id)} == {mars.id, sea.id, attached.id}
    picture = client.files.create(file=("a.bin", b"\x89PNG\r\n\x1a\n" * 9), purpose="assistants")
    error = refusal(
        openai.BadRequestError, lambda: stores.files.create(store.id, file_id=picture.id)
    )
    assert error.param == "file_id"
    assert stores.files.delete(mars.id, vector_store_id=store.id).deleted
    assert client.files.retrieve(mars.id).id == mars.id
    stores.delete(store.id)
    for file_id in (mars.id, sea.id, attached.id, picture.id):
        client.files.delete(file_id)


def vector_search(client: openai.OpenAI) -> None:
    stores = client.vector_stores
    (store,) = [store for store in stores.list() if store.name == FACTS]
    assert store.file_counts.completed == 3
    assert store.usage_bytes > 0
    page = stores.search(store.id, query="What color is the sky on Mars?", max_num_results=2)
    found = page.data
    assert page.object == "vector_store.search_results.page"
    assert len(found) == 2
    assert (found[0].file_id, found[0].attributes) == ("mars.md", {"planet": "Mars", "year": 2023})
    assert "red" in found[0].content[0].text
    assert 1 >= found[0].score >= found[1].score >= 0
    earth = stores.search(
        store.id,
        query=["What color is the sky?", "Is the sea deep?"],
        filters={"type": "eq", "key": "planet", "value": "Earth"},
        ranking_options={"ranker": "auto", "score_threshold": 0.1},
    )
    assert {hit.file_id for hit in earth} == {"docs/earth.md", "sea.md"}
    files = list(stores.files.list(store.id, limit=1, order="asc"))
    assert [file.id for file in files] == ["mars.md", "docs/earth.md", "sea.md"]
    one = stores.files.retrieve("mars.md", vector_store_id=store.id)
    assert (one.status, one.attributes) == ("completed", {"planet": "Mars", "year": 2023})
    (text,) = stores.files.content("mars.md", vector_store_id=store.id)
    assert text.text == "The sky on Mars is red."
    gone = stores.files.delete("mars.md", vector_store_id=store.id)
    assert gone.deleted
    left = stores.search(store.id, query="What color is the sky on Mars?")
    assert "mars.md" not in {hit.file_id for hit in left}
    refusal(
        openai.NotFoundError,
        lambda: stores.files.retrieve("mars.md", vector_store_id=store.id),
    )


SCENARIOS = {
    f.__name__: f
    for f in (
        models,
        chat,
        stream,
        reuse,
        stream_helper,
        raw_stream,
        completions,
        errors,
        logprobs,
        many,
        stop,
        tools,
        parse,
        json_mode,
        required,
        strict_tools,
        refused_schema,
        disconnect,
        embeddings,
        embedding_batch,
        embedding_errors,
        vector_stores,
        files,
        attached_files,
        vector_search,
    )
}

if __name__ == "__main__":
    name, url, key = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)
        )
        print("ok", scenario)
