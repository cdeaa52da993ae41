from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.velesio import contents, sampling, schema, translate
from gateway.dialects.velesio.keys import has_any
from gateway.dialects.velesio.spelling import completion_spelling, content_spelling
from gateway.errors import Problem, ProblemError


def body(**fields: Any) -> schema.LlamaCompletionRequest:
    data = json.dumps({"prompt": "x"} | fields)
    return msgspec.json.decode(data, type=schema.LlamaCompletionRequest)


@pytest.mark.parametrize(
    ("prompt", "parts", "many"),
    [
        ("a", [("a",)], False),
        ([1, 2], [[1, 2]], False),
        ([1, "a"], [[1, "a"]], False),
        (["a", 1], [["a", 1]], False),
        (["a"], [("a",)], True),
        (["a", [1], ["b", 2]], [("a",), [1], ["b", 2]], True),
    ],
)
def test_prompts(prompt: Any, parts: list[Any], many: bool) -> None:
    found, listed = translate.prompts_of(prompt)
    assert [prompt.parts for prompt in found] == parts
    assert listed is many


def test_only_the_first_text_of_a_prompt_gets_what_the_model_adds() -> None:
    (prompt,), _ = translate.prompts_of(["a", 1, "b"])
    assert [(text.text, text.first) for text in prompt.texts()] == [("a", True), ("b", False)]
    (prompt,), _ = translate.prompts_of([1, "b"])
    assert [text.first for text in prompt.texts()] == [False]


@pytest.mark.parametrize(
    ("given_bias", "tokens", "texts"),
    [
        (None, {}, []),
        ([], {}, []),
        ([[5, 1.5], [6, -2]], {5: 1.5, 6: -2.0}, []),
        ([[5, False]], {5: -100.0}, []),
        ([["word", 3]], {}, [("word", 3.0)]),
        ({"5": 1, "word": False}, {5: 1.0}, [("word", -100.0)]),
    ],
)
def test_biases(given_bias: Any, tokens: Any, texts: Any) -> None:
    assert translate.biases_of(body(logit_bias=given_bias).logit_bias) == (tokens, texts)


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_any_bias_is_read_or_refused(value: Any) -> None:
    raw = msgspec.Raw(json.dumps(value).encode())
    refused: str | None = ""
    tokens: dict[int, float] = {}
    texts: list[tuple[str, float]] = []
    try:
        tokens, texts = translate.biases_of(raw)
    except ProblemError as error:
        refused = error.problem.param
    assert refused in ("", "logit_bias")
    for bias in [*tokens.values(), *(bias for _, bias in texts)]:
        assert -100 <= bias <= 100
    assert all(0 <= token <= schema.INT32_MAX for token in tokens)


def test_a_seed_is_drawn_only_where_none_is_given() -> None:
    for seed, expected in ((None, 9), (-1, 9), (2**32 - 1, 9), (0, 0), (7, 7), (-5, -5)):
        assert sampling.to_sampling(body(seed=seed), {}, 9).seed == expected


def test_defaults_count_only_where_nothing_is_said() -> None:
    least = sampling.to_sampling(body(), {}, 1)
    for name, value in sampling.DEFAULTS.items():
        assert getattr(least, name) == pytest.approx(value)
    assert not least.HasField("max_tokens")
    zeros = {"temperature": 0, "top_k": 0, "top_p": 0, "min_p": 0, "repeat_last_n": 0}
    said = sampling.to_sampling(body(**zeros), {}, 1)
    assert all(getattr(said, name) == 0 for name in zeros)
    assert sampling.dispensable(body(**zeros)) == sampling.dispensable(body()) - {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
    }


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [({}, False), ({"n_predict": None}, False), ({"n_predict": 1}, True), ({"grammar": ""}, True)],
)
def test_keys(fields: dict[str, Any], chosen: bool) -> None:
    keys = msgspec.json.decode(json.dumps({"prompt": "x"} | fields), type=schema.LlamaKeys)
    assert has_any(keys) is chosen


@pytest.mark.parametrize(
    ("param", "many", "spelled"),
    [
        ("prompts[0].token_ids.ids[3]", False, "prompt[3]"),
        ("prompts[0].token_ids", False, "prompt"),
        ("prompts[2].token_ids.ids[3]", True, "prompt[2][3]"),
        ("prompts[0]", True, "prompt[0]"),
        ("sampling.stop[2]", False, "stop"),
        ("sampling.repetition_penalty", False, "repeat_penalty"),
        ("sampling.max_tokens", False, "n_predict"),
        ("sampling.logprobs", False, "n_probs"),
        ("sampling.min_p", False, "min_p"),
        ("guide.gbnf", False, "grammar"),
        ("guide.json_schema", False, "json_schema"),
        ("model", False, "model"),
    ],
)
def test_spelling(param: str, many: bool, spelled: str) -> None:
    problem = Problem("INVALID_ARGUMENT", f"'{param}': is wrong.", param)
    found = completion_spelling(many=many)(problem)
    assert (found.param, found.message) == (spelled, f"'{spelled}': is wrong.")


def test_spelling_of_contents() -> None:
    problem = Problem("INVALID_ARGUMENT", "x", "inputs[1].text")
    assert content_spelling(many=True)(problem).param == "content[1]"
    problem = Problem("INVALID_ARGUMENT", "x", "inputs[0].token_ids.ids[4]")
    assert content_spelling(many=False)(problem).param == "content[4]"


@pytest.mark.parametrize(
    ("content", "inputs", "many"),
    [
        ("a", ["a"], False),
        ([1, 2], [[1, 2]], False),
        (["a", [3], "b"], ["a", [3], "b"], True),
    ],
)
def test_contents(content: Any, inputs: list[Any], many: bool) -> None:
    asked = schema.ContentEmbeddingRequest(content=content, model="m")
    sent = contents.to_embed_request(asked).inputs
    assert [item.text or list(item.token_ids.ids) for item in sent] == inputs
    assert contents.is_many(asked) is many
