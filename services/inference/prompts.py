"""Prompts: from texts, conversations and token IDs to the tokens that a model reads."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.errors import InvalidArgument
from services.inference.conversation import ToolPlan, prompt_ids
from services.inference.registry import ServedModel
from services.inference.requests import ChatRequest
from services.inference.runs import PromptPlan
from services.inference.thoughts import template_options
from services.inference.validation import check_vocabulary, context_exceeded

_OFF_LOOP_CHARACTERS = 4096
"""Texts longer than this are tokenised on another thread."""
_LAST_TOKENS = 16
"""At a prompt's end, enough to see whether it opens a thought."""
_MOST_CHARACTERS_PER_TOKEN = 512
"""No tokenizer makes longer tokens: a prompt beyond it can't fit, and isn't tokenised at all."""

_T = TypeVar("_T")


async def off_loop(length: int, work: Callable[[], _T]) -> _T:
    """Runs text work of this many characters, on another thread when it is long."""
    if length <= _OFF_LOOP_CHARACTERS:
        return work()
    return await asyncio.to_thread(work)


async def chat_prompt(request: ChatRequest, served: ServedModel, tools: ToolPlan) -> PromptPlan:
    """Tokens of a conversation. Raises what validation raises."""
    length = sum(len(message.text) for message in request.messages)
    _check_length(length, served, "messages")

    def ids(opening: str) -> Sequence[int]:
        return prompt_ids(
            served,
            request.messages,
            tools.offered,
            system_prompt=served.settings.system_prompt,
            opening=opening,
            options=template_options(request.reasoning),
        )

    def work() -> PromptPlan:
        thoughts, text = served.thoughts, served.loaded.text
        if thoughts is None:
            return PromptPlan(ids(tools.opening))
        found = ids("")
        opened = thoughts.is_opened_by(text.decode(found[-_LAST_TOKENS:]))
        held = request.guide is not None or tools.required
        unwanted = request.reasoning is False and not thoughts.has_switch
        # What is held to a form can't begin with a thought.
        if unwanted or (opened and (held or request.reasoning is False)):
            closing = thoughts.closing(opened=opened) + tools.opening
            found, opened = [*found, *text.encode(closing)], False
        elif tools.opening:
            found = ids(tools.opening)
        return PromptPlan(found, opens_thought=None if held else opened)

    length += sum(len(tool.parameters_json) for tool in tools.offered)
    return await off_loop(length, work)


async def text_prompt(
    prompt: str | tuple[int, ...],
    position: int,
    served: ServedModel,
    *,
    echo: bool,
    scored: bool,
) -> PromptPlan:
    """Tokens of a text, or those that were given. Raises what validation raises."""
    text = served.loaded.text
    if isinstance(prompt, tuple):
        field = f"prompts[{position}].token_ids"
        check_vocabulary(prompt, served.loaded.engine.info.vocabulary_size, field)
        if not prompt:
            raise InvalidArgument(f"'{field}': is empty.", field=field)
        return PromptPlan(prompt, text.decode(prompt) if echo else None)
    _check_length(len(prompt), served, f"prompts[{position}]")
    ids = await off_loop(len(prompt), lambda: text.encode(prompt, add_special=True))
    if not ids:
        ids = text.encode(text.bos_token or text.eos_token)
    if not ids:
        field = f"prompts[{position}].text"
        raise InvalidArgument(
            f"'{field}': is empty, and the model has no token to begin with.", field=field
        )
    hidden = len(ids) - len(text.encode(prompt)) if scored else 0
    return PromptPlan(ids, prompt if echo else None, hidden)


def _check_length(characters: int, served: ServedModel, field: str) -> None:
    """Refuses texts that can't fit, before the work of tokenising them."""
    context_length = served.loaded.engine.info.context_length
    least = characters // _MOST_CHARACTERS_PER_TOKEN
    if least > context_length:
        raise context_exceeded(context_length, least, 0, field)
