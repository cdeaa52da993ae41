"""The benchmark of schemas compares equals."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.schemas.bench import QUICK, contestants, run
from benchmarks.schemas.bodies import LARGE, SMALL, bodies
from benchmarks.schemas.report import MSGSPEC, PARSED, PYDANTIC, TITLES, ratio, render
from gateway.errors import ProblemError
from tests.unit.benchmarks.test_image_report import rows

RICH: dict[str, Any] = {
    "model": "words",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What's on it?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "a cat", "tool_call_id": "1"},
    ],
    "temperature": 1,
    "n": 2,
    "stop": ["a", "b"],
    "logit_bias": {"5": -1.5},
    "metadata": {"a": "b"},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": [1]}}},
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "unknown": [1, 2, 3],
}


def plain(value: Any) -> Any:
    """What was decoded as JSON, without what is absent."""
    pydantic = pytest.importorskip("pydantic")
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump(by_alias=True)
    return present(json.loads(msgspec.json.encode(value)))


def present(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: present(each) for key, each in value.items() if each is not None}
    return [present(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", [*bodies().values(), json.dumps(RICH).encode()])
def test_both_decode_the_same(body: bytes) -> None:
    pytest.importorskip("pydantic")
    decoded = {name: plain(each(body)) for name, each in contestants().items()}
    assert decoded[MSGSPEC] == decoded[PYDANTIC] == decoded[PARSED]
    sent = json.loads(body)
    sent.pop("unknown", None)
    for name, value in sent.items():
        if name not in ("messages", "tools"):  # which have defaults of their own inside
            assert decoded[MSGSPEC][name] == value


WRONG: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": "Hello!"},
    {"messages": None},
    {"messages": [{"role": "nobody", "content": "Hello!"}]},
    {"messages": [{"content": "Hello!"}]},
    {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
    {"temperature": 2.1},
    {"temperature": "0.5"},
    {"top_p": -0.1},
    {"n": 129},
    {"n": True},
    {"max_tokens": "20"},
    {"repetition_penalty": 0},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"stream": 1},
    {"model": "x" * 257},
    {"logit_bias": {"5": 101}},
    {"response_format": {"type": "poem"}},
    {"tools": [{"type": "function", "function": {"name": ""}}]},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: json.dumps(each)[:40])
def test_both_refuse_the_same(wrong: dict[str, Any]) -> None:
    pydantic = pytest.importorskip("pydantic")
    body = json.dumps(RICH | wrong).encode()
    for name, decoded in contestants().items():
        with pytest.raises(ProblemError if name == MSGSPEC else pydantic.ValidationError):
            decoded(body)


@given(
    temperature=st.floats(-1, 3) | st.integers(-1, 3) | st.none() | st.text(max_size=2),
    n=st.integers(-1, 130) | st.booleans() | st.none(),
    stop=st.lists(st.text(max_size=3), max_size=6) | st.text(max_size=3),
    content=st.text() | st.none(),
)
def test_both_agree_about_generated_requests(
    temperature: object, n: object, stop: object, content: object
) -> None:
    pytest.importorskip("pydantic")
    message = {"role": "user", "content": content}
    request = {"messages": [message], "temperature": temperature, "n": n, "stop": stop}
    body = json.dumps(request).encode()
    outcomes: list[Any] = []
    for decoded in contestants().values():
        try:
            outcomes.append(plain(decoded(body)))
        except (ProblemError, ValueError):  # pydantic's are ValueErrors
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_the_large_one_has_200_kilobytes() -> None:
    assert 195_000 < len(bodies()[LARGE]) < 220_000
    assert len(bodies()[SMALL]) < 500


SAMPLES = {
    (MSGSPEC, SMALL): [1.0, 10.0, 2.0],
    (MSGSPEC, LARGE): [100.0, 100.0, 100.0],
    (PYDANTIC, SMALL): [3.0, 30.0, 12.0],
    (PYDANTIC, LARGE): [150.0, 150.0, 150.0],
}


def test_ratios_are_of_rounds() -> None:
    assert ratio(SAMPLES, PYDANTIC, SMALL) == 3.0
    found = rows(render(SAMPLES, ["a note"]))
    assert found[TITLES[MSGSPEC]] == ["2.0", "100.0", "1.00 ×", "1.00 ×"]
    assert found[TITLES[PYDANTIC]] == ["12.0", "150.0", "3.00 ×", "1.50 ×"]
    assert TITLES[PARSED] not in found


async def test_it_runs() -> None:
    found = rows(await run(QUICK, lambda line: None))
    assert len([title for title in TITLES.values() if title in found]) == len(contestants())
    assert all(float(cell.split()[0]) > 0 for cell in found[TITLES[MSGSPEC]])
