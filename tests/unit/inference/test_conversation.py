"""Conversations as the templates of each family take them."""

import re

import pytest

from services.errors import InvalidArgument
from services.inference.conversation import prompt_ids, render
from services.inference.engine import LoadedModel
from services.inference.engines.hf_text import HFText
from services.inference.registry import ServedModel
from services.inference.requests import Message, Speaker, Tool
from services.inference.requests import ToolCall as Call
from services.inference.thoughts import ThoughtFormat, template_options
from services.serving.models import ModelKind, ModelSettings
from tests.unit.inference.family_templates import TEMPLATES
from tests.unit.inference.family_tokenizers import family_tokenizer
from tests.unit.inference.scripted_engine import ScriptedEngine

TOOLS = (Tool("add"), Tool("weather"))


def served(family: str) -> ServedModel:
    loaded = LoadedModel(ScriptedEngine(), HFText(family_tokenizer(family)))
    return ServedModel("m", ModelKind.CHAT, "models/m/revisions/1", loaded, ModelSettings())


def history(*ids: str, order: int = 1) -> list[Message]:
    calls = tuple(Call(id, "add", f'{{"n": "argument-{id}"}}') for id in ids)
    return [
        Message(Speaker.USER, ("Go.",)),
        Message(Speaker.ASSISTANT, ("Going.",), tool_calls=calls),
        *(Message(Speaker.TOOL, (f"result-{id}",), tool_call_id=id) for id in ids[::order]),
        Message(Speaker.USER, ("And?",)),
    ]


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("ids", [("call_1",), ("call_1", "call_22", "toolu_3")])
@pytest.mark.parametrize("order", [1, -1])
def test_calls_and_results_are_rendered(family: str, ids: tuple[str, ...], order: int) -> None:
    model = served(family)
    messages = history(*ids, order=order)
    prompt = render(model, messages, TOOLS)
    for id in ids:
        assert prompt.count(f"argument-{id}") == 1
        assert prompt.count(f"result-{id}") == 1
        assert prompt.index(f"argument-{id}") < prompt.index(f"result-{id}")
    assert model.loaded.text.decode(list(prompt_ids(model, messages, TOOLS))) == prompt


THINKING = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content is defined %}
        {{- '<think>' + message.reasoning_content + '</think>' }}
    {%- endif %}
    {{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""


def test_templates_are_told_of_thoughts_and_of_the_switch() -> None:
    tokenizer = family_tokenizer("chatml")
    tokenizer.chat_template = THINKING
    loaded = LoadedModel(ScriptedEngine(), HFText(tokenizer))
    model = ServedModel("m", ModelKind.CHAT, "models/m/revisions/1", loaded, ModelSettings())
    assert model.thoughts == ThoughtFormat("<think>", "</think>", has_switch=True)
    messages = [
        Message(Speaker.USER, ("a",)),
        Message(Speaker.ASSISTANT, ("b",), reasoning="hm"),
        Message(Speaker.USER, ("c",)),
    ]

    def prompt(reasoning: bool | None) -> str:
        ids = prompt_ids(model, messages, (), options=template_options(reasoning))
        return model.loaded.text.decode(list(ids))

    assert "<|im_start|>assistant\n<think>hm</think>b<|im_end|>" in prompt(None)
    assert prompt(None) == prompt(True)
    assert prompt(False) == prompt(None) + "<think>\n\n</think>\n\n"


def test_llama_takes_one_call_a_turn() -> None:
    """Each with its result behind it, in whatever order the results came."""
    messages = history("a", "b", order=-1)
    prompt = render(served("llama"), messages, TOOLS)
    found = re.findall(r"(?:argument|result)-[ab]", prompt)
    assert found == ["argument-a", "result-a", "argument-b", "result-b"]


def test_results_of_no_call_stay_where_they_are() -> None:
    messages = history("a", "b")
    messages.insert(3, Message(Speaker.TOOL, ("result-c",), tool_call_id="c"))
    prompt = render(served("llama"), messages, TOOLS)
    found = re.findall(r"(?:argument|result)-[abc]", prompt)
    assert found == ["argument-a", "result-a", "argument-b", "result-b", "result-c"]


def test_mistral_takes_ids_of_nine_characters() -> None:
    prompt = render(served("mistral list"), history("call_1", "Abcdefgh9"), TOOLS)
    written = re.findall(r'"(?:call_)?id": "([^"]*)"', prompt)
    assert len(written) == 4
    assert written[:2] == written[2:]
    assert written[1] == "Abcdefgh9"
    assert re.fullmatch("[0-9A-Za-z]{9}", written[0])


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_prompt_is_the_text_that_is_rendered(family: str) -> None:
    model = served(family)
    messages = [Message(Speaker.USER, ("hi <|im_end|><|eot_id|>[/INST]</s>",))]
    ids = list(prompt_ids(model, messages, TOOLS, system_prompt="Rules.", opening="<s>"))
    rendered = render(model, messages, TOOLS, system_prompt="Rules.")
    assert model.loaded.text.decode(ids) == rendered + "<s>"
    assert len(ids) > len(model.loaded.text.encode(rendered + "<s>"))


def test_a_template_that_refuses_is_an_argument_error() -> None:
    with pytest.raises(InvalidArgument, match="Only user and assistant"):
        prompt_ids(served("mistral"), [Message(Speaker.SYSTEM, ("a",))] * 2, ())
