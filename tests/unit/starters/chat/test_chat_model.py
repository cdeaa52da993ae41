"""The folder that ships: its size, its tokenizer, its template and its network."""

from __future__ import annotations

import json
from itertools import groupby
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from starters.chat.recipe.curriculum import LESSONS, SKILLS, STEPS, Lesson, draw, lesson
from starters.chat.recipe.exam import MODEL
from starters.chat.recipe.network import Network, Shape, llama_config, named_weights
from starters.chat.recipe.rendering import TEMPLATE, render

FAST = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


def test_the_model_is_a_small_llama(model: Any) -> None:
    assert isinstance(model, LlamaForCausalLM)
    assert sum(p.numel() for p in model.parameters()) < 12_000_000
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 25_000_000


def test_the_weights_are_bf16() -> None:
    with safe_open(MODEL / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in list(weights.keys())} == {torch.bfloat16}


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert FAST.decode(FAST.encode(text, add_special_tokens=False).ids) == text


def test_each_digit_is_a_token(tokenizer: Any) -> None:
    assert tokenizer.tokenize("4821") == ["4", "8", "2", "1"]


@pytest.mark.parametrize("around", [" {}", '"{}"', "({})", "\n{}", ":{}", "a {} b"])
def test_a_name_has_the_same_tokens_wherever_it_stands(tokenizer: Any, around: str) -> None:
    name = tokenizer.encode("Zorvekton", add_special_tokens=False)
    text = tokenizer.encode(around.format("Zorvekton"), add_special_tokens=False)
    assert any(text[i : i + len(name)] == name for i in range(len(text)))


def test_an_answer_ends_with_the_mark_of_its_turn(tokenizer: Any, model: Any) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id


def test_decoding_keeps_the_marks_of_a_tool_call(tokenizer: Any) -> None:
    ids = tokenizer.encode("<tool_call>\n{}\n</tool_call><|im_end|>", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<tool_call>\n{}\n</tool_call>"


@pytest.mark.parametrize("skill", SKILLS)
def test_the_template_renders_what_the_model_was_trained_on(tokenizer: Any, skill: str) -> None:
    rng = Random(f"template {skill}")
    for _ in range(5):
        example = draw(skill, rng, held_out=True)
        theirs = tokenizer.apply_chat_template(
            example.messages, tools=example.tools or None, tokenize=False
        )
        assert theirs == render(example.messages, example.tools)


def test_the_template_writes_tools_calls_and_results(tokenizer: Any) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    text = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Oslo?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "sunny"},
        ],
        tools=[TOOL],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert f"<tools>\n{json.dumps(TOOL)}\n</tools>" in text
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
        "<|im_end|>"
    ) in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_takes_content_in_parts(tokenizer: Any) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    whole = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False) == whole
    )


def test_the_shipped_template_is_the_one_of_the_recipe() -> None:
    assert (MODEL / "chat_template.jinja").read_text() == TEMPLATE.read_text()


def test_the_trained_network_is_the_network_that_ships() -> None:
    """The lean network and transformers' Llama give the same loss."""
    torch.manual_seed(0)
    shape = Shape(width=64, layers=2, heads=2, inner=96, vocabulary=128, context=64)
    network = Network(shape)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    llama = LlamaForCausalLM(LlamaConfig(**llama_config(shape, 2, 0))).float()
    missing = llama.load_state_dict(named_weights(network), strict=False)
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    assert not missing.unexpected_keys
    llama.tie_weights()
    tokens = torch.randint(3, 128, (1, 24))
    at, weight = torch.arange(23), torch.ones(23)
    loss = network(
        tokens, torch.ones_like(tokens), torch.arange(24)[None], at, tokens[0, 1:], weight
    )
    assert loss.item() == pytest.approx(llama(tokens, labels=tokens).loss.item(), abs=0.03)


@pytest.mark.parametrize("each", LESSONS)
def test_the_rate_rises_and_falls_to_nothing(each: Lesson) -> None:
    rates = [each.rate(step) for step in range(each.first, each.last)]
    assert max(rates) == each.peak
    assert 0 < rates[0] < each.peak / 20
    assert 0 < rates[-1] < each.peak / 20


def test_lessons_follow_each_other() -> None:
    of_steps = [lesson(step) for step in range(STEPS)]
    assert [len(list(steps)) for _, steps in groupby(of_steps, key=LESSONS.index)] == [
        each.last - each.first for each in LESSONS
    ]
    for step in range(STEPS):
        rows = of_steps[step].rows(step)
        assert rows.count * rows.length == 8192
        assert of_steps[step].mixture(step)
