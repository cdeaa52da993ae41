"""Conversations as the text and the tokens that a model reads: the same in serving and training."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from services.errors import InvalidArgument
from services.weights.caller_text import CallerText, sound, split
from services.weights.configuration import fast_tokenizer

_NO_OPTIONS: Mapping[str, Any] = {}
Turns = Sequence[Mapping[str, Any]]
"""Messages, or tools, as chat templates take them."""


class ChatText:
    """Renders conversations by a tokenizer's chat template, and makes tokens of them.

    Raises:
        FailedPrecondition: the tokenizer is written in Python.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = fast_tokenizer(tokenizer)
        backend.no_truncation()
        backend.no_padding()
        self._tokenizer = tokenizer
        self._backend = backend
        self.template = _default_template(tokenizer)
        """The template, in Jinja; empty where there is none."""

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """Tokens of a text."""
        return self._backend.encode(sound(text), add_special_tokens=add_special).ids

    def render(
        self,
        messages: Turns,
        tools: Turns,
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] = _NO_OPTIONS,
    ) -> str:
        """The text of a conversation; `options` are variables of the template.

        Raises:
            InvalidArgument: there is no template, or it refuses the conversation.
        """
        if not self.template:
            raise InvalidArgument(
                "This model has no chat template: use completions, or deploy a chat model.",
                field="messages",
            )
        try:
            prompt: Any = cast("Any", self._tokenizer).apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **options,
            )
        except TemplateError as error:
            # Templates speak to callers here ("roles must alternate"): their message is passed on.
            raise InvalidArgument(
                f"The model's chat template refuses the conversation: {error}", field="messages"
            ) from error
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidArgument(
                "The model's chat template can't render this conversation.", field="messages"
            ) from error
        return cast("str", prompt)

    def marked(self, messages: Turns, tools: Turns) -> tuple[Turns, Turns, str]:
        """The conversation with the control tokens that its strings spell broken, and what breaks
        them: a sentinel, empty where there was nothing to break. See `CallerText`.

        Raises:
            InvalidArgument: it holds what can't be broken, or is nested too deeply.
        """
        try:
            given, sentinel = self._callers.marked([list(messages), list(tools)])
        except RecursionError as error:
            raise InvalidArgument(
                "The conversation is nested too deeply.", field="messages"
            ) from error
        return given[0], given[1], sentinel

    def encode_marked(self, text: str, sentinel: str) -> list[int]:
        """Tokens of text that was rendered of a marked conversation."""
        parts = split(text, sentinel)
        if len(parts) == 1:
            return self.encode(parts[0])
        encodings = self._backend.encode_batch(
            [sound(part) for part in parts], add_special_tokens=False
        )
        return [token for encoding in encodings for token in encoding.ids]

    def prompt(
        self,
        messages: Turns,
        tools: Turns,
        *,
        opening: str = "",
        options: Mapping[str, Any] = _NO_OPTIONS,
    ) -> list[int]:
        """Tokens of a conversation's prompt, opened for an answer that begins with `opening`."""
        messages, tools, sentinel = self.marked(messages, tools)
        text = self.render(messages, tools, options=options)
        return self.encode_marked(text + opening, sentinel)

    @cached_property
    def _callers(self) -> CallerText:
        turn, answer = {"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}
        written: set[int] = set()
        for turns in ([turn, answer, turn], [{"role": "system", "content": "x"}, turn]):
            with contextlib.suppress(InvalidArgument):  # a template may refuse either
                written.update(self.encode(self.render(turns, [], add_generation_prompt=False)))
        return CallerText(self._backend, frozenset(written))


def _default_template(tokenizer: PreTrainedTokenizerBase) -> str:
    template: Any = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = cast("dict[str, Any]", template).get("default")
    return template if isinstance(template, str) else ""
