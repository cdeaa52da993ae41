"""Batches with openai-python 1.x and 3.x, each run by the client's own environment.

`python openai_batch_session.py SCENARIO URL KEY`; a failed assertion is a failed test.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import openai

BASE = "penstock-starter"
CHAT = "/v1/chat/completions"
POLL_S = 0.5
WAIT_S = 1500.0
"""Others may work on the machine."""
COUNT = 12


def line(name: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    content = {
        "model": BASE,
        "messages": [{"role": "user", "content": f"Say {name}."}],
        "temperature": 0,
        "max_tokens": 12,
    }
    return {"custom_id": name, "method": "POST", "url": url, "body": content | body}


def upload(client: openai.OpenAI, lines: list[dict[str, Any]]) -> str:
    text = "".join(json.dumps(one) + "\n" for one in lines).encode()
    return client.files.create(file=("in.jsonl", text), purpose="batch").id


def create(client: openai.OpenAI, lines: list[dict[str, Any]], **more: Any) -> Any:
    wishes: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h"} | more
    return client.batches.create(input_file_id=upload(client, lines), **wishes)


def until(client: openai.OpenAI, batch_id: str, *wanted: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status in wanted:
            return batch
        assert batch.status not in ("failed", "completed", "expired", "cancelled"), batch
        assert time.monotonic() < deadline, batch
        time.sleep(POLL_S)


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    told = [json.loads(one) for one in client.files.content(file_id).text.splitlines()]
    assert len({one["custom_id"] for one in told}) == len(told)
    return {one["custom_id"]: one for one in told}


def refusal(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def story(client: openai.OpenAI) -> None:
    """Upload, start, wait, read what came of it."""
    names = [f"word-{number}" for number in range(COUNT)]
    lines = [line(name) for name in names]
    lines += [line("unknown", model="nobody"), line("streamed", stream=True)]
    batch = create(client, lines, metadata={"shop": "14 Tallow Row"})
    assert re.fullmatch(r"batch_[A-Za-z0-9]{24}", batch.id), batch.id
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", CHAT, "24h")
    assert batch.expires_at - batch.created_at == 24 * 3600
    error = refusal(openai.BadRequestError, lambda: client.files.delete(batch.input_file_id))
    assert batch.id in str(error)

    done = until(client, batch.id, "completed")
    assert done.metadata == {"shop": "14 Tallow Row"}
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (COUNT + 2, COUNT, 2), counts
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    assert done.errors is None
    assert done.cancelled_at is None

    good = results(client, done.output_file_id)
    assert set(good) == set(names)
    for name, one in good.items():
        assert one["error"] is None
        assert one["response"]["status_code"] == 200
        body = dict(lines[names.index(name)]["body"])
        live = client.chat.completions.create(**body)
        answer = one["response"]["body"]
        assert answer["choices"][0]["message"]["content"] == live.choices[0].message.content
        assert answer["usage"]["completion_tokens"] == live.usage.completion_tokens
    bad = results(client, done.error_file_id)
    assert set(bad) == {"unknown", "streamed"}
    assert bad["unknown"]["response"]["status_code"] == 404
    assert bad["unknown"]["response"]["body"]["error"]["code"] == "model_not_found"
    assert bad["streamed"]["response"]["body"]["error"]["param"] == "stream"
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert client.files.delete(batch.input_file_id).deleted


def cancelling(client: openai.OpenAI) -> None:
    """A batch that is cancelled has a line for each request, one way or the other."""
    names = [f"long-{number}" for number in range(200)]
    batch = create(client, [line(name, max_tokens=200) for name in names])
    until(client, batch.id, "in_progress")
    told = client.batches.cancel(batch.id)
    assert told.status in ("cancelling", "cancelled"), told
    done = until(client, batch.id, "cancelled")
    assert done.cancelled_at >= done.cancelling_at
    good, left = results(client, done.output_file_id), results(client, done.error_file_id)
    assert sorted([*good, *left]) == sorted(names)
    assert {one["error"]["code"] for one in left.values()} == {"batch_cancelled"}
    assert client.batches.cancel(batch.id).status == "cancelled"


def listing(client: openai.OpenAI) -> None:
    """Pages, newest first."""
    made = [create(client, [line("one")]).id for _ in range(3)]
    seen = []
    for batch in client.batches.list(limit=2):
        seen.append(batch.id)
        if len(seen) >= 3:
            break
    assert seen == made[::-1], (seen, made)
    for batch_id in made:
        until(client, batch_id, "completed")


def errors(client: openai.OpenAI) -> None:
    """What is refused, and what fails."""
    error = refusal(
        openai.NotFoundError,
        lambda: client.batches.create(
            input_file_id="file-nothing", endpoint=CHAT, completion_window="24h"
        ),
    )
    assert error.body["param"] == "input_file_id"
    refusal(openai.NotFoundError, lambda: client.batches.retrieve("batch_nothing"))
    refusal(openai.NotFoundError, lambda: client.batches.cancel("batch_nothing"))
    refusal(
        openai.BadRequestError,
        lambda: create(client, [line("one")], endpoint="/v1/nothing"),
    )
    batch = create(client, [line("one"), line("one"), line("two", url="/v1/embeddings")])
    done = until(client, batch.id, "failed")
    found = [(one.code, one.line, one.param) for one in done.errors.data]
    assert found == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("mismatched_url", 3, "url"),
    ], found
    assert done.output_file_id is None
    refusal(openai.BadRequestError, lambda: client.batches.cancel(batch.id))


SCENARIOS = {each.__name__: each for each in (story, cancelling, listing, errors)}

if __name__ == "__main__":
    name, url, key = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=600))
        print("ok", scenario)
