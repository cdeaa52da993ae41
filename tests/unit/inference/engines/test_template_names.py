"""Families of real templates, by their telling lines."""

import pytest

from services.inference.engines.template_names import FAMILIES, template_family

KNOWN = {
    "chatml", "llama", "llama chat", "llama3 chat", "mistral instruct", "mistral chat", "gemma",
    "alpaca", "vicuna", "phi", "phi-3", "phi-3.5", "phi-4-mini", "phi-4", "zephyr", "deepseek-v2",
    "deepseek-v3", "deepseek-r1", "qwen3", "bitnet",
}  # fmt: skip
TEMPLATES = {
    "chatml": "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}",
    "qwen3": "{{'<|im_start|>assistant\n'}}{% if enable_thinking is false %}<think>{% endif %}",
    "phi-4": "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}",
    "llama3 chat": "{{'<|start_header_id|>' + role + '<|end_header_id|>\n\n'}}<|eot_id|>",
    "llama chat": "{{bos_token + '[INST] ' + '<<SYS>>\n' + system + '\n<</SYS>>\n\n'}}",
    "mistral instruct": "{{'[INST] ' + message['content'] + ' [/INST]'}}",
    "mistral chat": "{{'[AVAILABLE_TOOLS]' + tools}}{{'[INST]' + message['content'] + '[/INST]'}}",
    "gemma": "{{'<start_of_turn>' + role + '\n' + message['content'] + '<end_of_turn>\n'}}",
    "alpaca": "{{'### Instruction:\n' + message['content']}}{{'### Response:\n'}}",
    "vicuna": "{{'USER: ' + message['content'] + ' '}}{{'ASSISTANT: ' + message['content']}}",
    "phi": "{{'Instruct: ' + message['content'] + '\nOutput:'}}",
    "phi-3": "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>'}}",
    "phi-3.5": "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{{'<|user|>\n'}}<|assistant|>",
    "phi-4-mini": "{{'<|' + role + '|>' + c + '<|tool|>' + t + '<|/tool|>'}}<|end|>",
    "zephyr": "{{'<|user|>\n' + message['content'] + eos_token}}{{'<|assistant|>'}}",
    "deepseek-v2": "{{'User: ' + c}}{{'Assistant: ' + c + eos_token}}{{'Assistant:'}}",
    "deepseek-v3": "{{'<｜User｜>' + message['content']}}{{'<｜Assistant｜>' + content}}",
    "deepseek-r1": "{% set c = content.split('</think>')[-1] %}{{'<｜Assistant｜><think>\n'}}",
    "bitnet": "{{ role | capitalize + ': ' + message['content'] + '<|eot_id|>' }}",
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_families(name: str) -> None:
    assert template_family(TEMPLATES[name]) == name


def test_names_are_those_that_clients_know() -> None:
    assert FAMILIES <= KNOWN
    assert set(TEMPLATES) <= FAMILIES
    assert template_family("") == template_family("{{ messages }}") == ""
