"""What every skill produces: a conversation, and how the exam judges an answer to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]
Tool = dict[str, Any]
Judge = Literal["exact", "contains", "json", "call", "story"]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation that ends with the assistant's turn.

    `accept` lists what the exam takes as right, under the rule that `judge` names; left empty, it
    is the last message itself. `key` identifies the instance for the split; left empty, it is the
    last user message without case and punctuation.
    """

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list[Tool])
    accept: tuple[str, ...] = ()
    judge: Judge = "exact"
    key: str = ""

    @property
    def instance(self) -> str:
        """The key that the split hashes."""
        asked = next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")
        return self.key or normalise(asked)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every answer that counts as right."""
        return self.accept or (self.messages[-1]["content"],)


def normalise(text: str) -> str:
    """Folds case, punctuation and spacing away."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def system(content: str) -> Message:
    """A system message."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """A user message."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """An assistant message."""
    return {"role": "assistant", "content": content}


def exchange(question: str, answer: str, **judging: Any) -> Example:
    """One question and its answer."""
    return Example([user(question), assistant(answer)], **judging)
