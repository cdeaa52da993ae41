"""Bodies, queries and paths about responses that no SDK would send: a 4xx in the envelope, soon.

The services behind the edge are real, so whatever it lets through is tried on them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.gateway.response_platform import (
    RESPONSES,
    WEATHER,
    Stack,
    called,
    events,
    stack,
)
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check
from tests.integration.gateway.test_edge_bad_fine_tuning import encoded, settle
from tests.integration.gateway.test_edge_bad_images import GENERATED
from tests.integration.gateway.test_edge_bad_vectors import damaged

WHOLE: dict[str, Any] = {
    "model": "echo",
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "snow"},
        {"role": "user", "content": called("Oslo")},
    ],
    "instructions": "x",
    "max_output_tokens": 200,
    "temperature": 0.5,
    "top_p": 0.5,
    "tools": [WEATHER],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "max_tool_calls": 2,
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 1,
    "stream": False,
    "store": True,
    "metadata": {"a": "b"},
    "reasoning": {"effort": "low"},
    "truncation": "disabled",
    "background": False,
    "user": "u",
    "service_tier": "auto",
}
NULLS = ("previous_response_id", "conversation", "prompt", "stream_options", "safety_identifier")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(module_loop: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with stack(tmp_path_factory.mktemp("edge")) as stacked:
        yield stacked


async def test_the_whole_body_is_a_good_one(real: Stack) -> None:
    answer = await real.http.post(RESPONSES, json=WHOLE | dict.fromkeys(NULLS))
    assert answer.status_code == 200, answer.text
    assert [item["type"] for item in answer.json()["output"]] == ["function_call"]


@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(real: Stack, name: str) -> None:
    check(await real.http.post(RESPONSES, content=HORRORS[name]))


@pytest.mark.parametrize("name", ["array", "number", "text", "null", "truncated", "utf-16"])
async def test_horrors_as_cancellations(real: Stack, name: str) -> None:
    check(await real.http.post(f"{RESPONSES}/resp_1/cancel", content=HORRORS[name]))


@GENERATED
@given(changes=st.dictionaries(st.sampled_from([*WHOLE, *NULLS]), JSON, max_size=3))
async def test_generated_fields(real: Stack, changes: dict[str, Any]) -> None:
    settle(await real.http.post(RESPONSES, content=encoded(WHOLE | changes)))


TEXTS = st.none() | st.text(max_size=6) | JSON
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_text", "output_text", "refusal", "input_image", "x"]) | JSON},
    optional={"text": TEXTS, "refusal": TEXTS, "image_url": TEXTS, "file_id": TEXTS},
)
CONTENTS = st.text(max_size=6) | st.lists(PARTS | JSON, max_size=3) | JSON
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["message", "function_call", "function_call_output", "reasoning", "item_reference"]
        )
        | JSON,
        "role": st.sampled_from(["user", "assistant", "system", "developer"]) | JSON,
        "id": st.sampled_from(["msg_1", "", "\0", "ü", "x" * 200]) | JSON,
        "content": CONTENTS,
        "call_id": st.sampled_from(["c1", "", "x" * 300]) | JSON,
        "name": TEXTS,
        "arguments": TEXTS,
        "output": CONTENTS,
        "summary": JSON,
        "status": TEXTS,
    },
)


@GENERATED
@given(items=st.lists(ITEMS | JSON, max_size=4), store=st.booleans(), last=st.booleans())
async def test_generated_items(real: Stack, items: list[Any], store: bool, last: bool) -> None:
    more = [{"role": "user", "content": "Hi"}] if last else []
    body = {"model": "echo", "input": [*items, *more], "store": store}
    settle(await real.http.post(RESPONSES, content=encoded(body)))


TOOLS = st.fixed_dictionaries(
    {"type": st.sampled_from(["function", "web_search", "mcp"]) | JSON},
    optional={
        "name": st.sampled_from(["f", "g", "", "a b", "x" * 65]) | JSON,
        "parameters": JSON | st.dictionaries(st.text(max_size=4), JSON, max_size=2),
        "description": TEXTS,
        "strict": st.booleans() | JSON,
    },
)
CHOICES = (
    st.sampled_from(["auto", "none", "required", "x"])
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["function", "allowed_tools", "file_search", "mcp"]) | JSON},
        optional={
            "name": st.sampled_from(["f", "g"]) | JSON,
            "mode": st.sampled_from(["auto", "required"]) | JSON,
            "tools": st.lists(TOOLS, max_size=2) | JSON,
        },
    )
    | JSON
)


@GENERATED
@given(tools=st.lists(TOOLS, max_size=3) | JSON, choice=CHOICES, stream=st.booleans())
async def test_generated_tools(real: Stack, tools: Any, choice: Any, stream: bool) -> None:
    body = {"model": "echo", "input": "Hi", "tools": tools, "tool_choice": choice}
    answer = await real.http.post(RESPONSES, content=encoded({**body, "stream": stream}))
    settle(answer)
    if answer.status_code == 200 and stream:
        assert events(answer.text)[-1]["type"] == "response.completed"


FORMATS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "json_object", "json_schema", "x"]) | JSON},
    optional={"name": TEXTS, "schema": JSON, "strict": JSON, "description": TEXTS},
)


@GENERATED
@given(form=FORMATS | JSON)
async def test_generated_formats(real: Stack, form: Any) -> None:
    body = {"model": "echo", "input": "Hi", "text": {"format": form}}
    settle(await real.http.post(RESPONSES, content=encoded(body)))


@GENERATED
@given(data=st.binary(max_size=200) | damaged(json.dumps(WHOLE).encode()))
async def test_generated_bytes(real: Stack, data: bytes) -> None:
    settle(await real.http.post(RESPONSES, content=data))


PATH = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@GENERATED
@given(
    call=st.sampled_from(
        [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
    ),
    id=PATH,
    query=st.dictionaries(
        st.sampled_from(["limit", "order", "after", "include[]", "include", "stream"]), PATH
    ),
)
async def test_generated_paths(
    real: Stack, call: tuple[str, str], id: str, query: dict[str, str]
) -> None:
    method, below = call
    url = f"{RESPONSES}/{quote(id, safe='')}{below}"
    settle(await real.http.request(method, url, params=query))


@GENERATED
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "order", "after", "include[]", "stream"]),
        PATH | st.integers().map(str) | st.sampled_from(["asc", "desc", "true", "false"]),
    ),
    below=st.sampled_from(["", "/input_items"]),
)
async def test_generated_queries(real: Stack, query: dict[str, str], below: str) -> None:
    id = (await real.create("One", store=True))["id"]
    settle(await real.http.get(f"{RESPONSES}/{id}{below}", params=query))
