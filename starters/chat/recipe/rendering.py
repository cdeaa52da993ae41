"""Conversations as text, as the chat template writes them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from starters.chat.recipe.conversation import Message, Tool

TEMPLATE: Final = Path(__file__).with_name("chat_template.jinja")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@cache
def _template() -> Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _to_json
    return environment.from_string(TEMPLATE.read_text())


def render(messages: list[Message], tools: list[Tool], *, prompt: bool = False) -> str:
    """Renders a conversation; as a prompt, it ends where the assistant's turn begins."""
    return _template().render(messages=messages, tools=tools or None, add_generation_prompt=prompt)
