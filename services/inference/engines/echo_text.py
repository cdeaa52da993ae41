"""The text side of the echo engine: one token per byte, and ChatML."""

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.errors import InvalidArgument
from services.inference.engine import NO_OPTIONS

END_OF_TEXT = 256
IM_START = 257
IM_END = 258
SPECIAL = {END_OF_TEXT: "<|endoftext|>", IM_START: "<|im_start|>", IM_END: "<|im_end|>"}
VOCABULARY_SIZE = 256 + len(SPECIAL)

CHAT_TEMPLATE = """\
{#- What is echoed may begin with a thought: <think>…</think>. #}
{%- if tools %}
    {%- set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
    {{- '<|im_start|>system\\n' + system + '# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools>\\n\\nCall a function with ' }}
    {{- '<tool_call>{"name": …, "arguments": …}</tool_call>.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + call.function | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

TOOLS_HEAD = "# Tools\n\n<tools>"
TOOLS_FOOT = (
    '\n</tools>\n\nCall a function with <tool_call>{"name": …, "arguments": …}</tool_call>.'
)


class EchoText:
    """Codec of the echo engine."""

    @property
    def template_name(self) -> str:
        """Always ChatML."""
        return "chatml"

    @property
    def chat_template(self) -> str:
        """The template that `render` follows; it needs no Jinja itself."""
        return CHAT_TEMPLATE

    @property
    def bos_token(self) -> str:
        """Text that stands for an empty prompt."""
        return SPECIAL[END_OF_TEXT]

    @property
    def eos_token(self) -> str:
        """Text that ends an answer."""
        return SPECIAL[IM_END]

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """One token per byte of UTF-8, one per special token's text. Adds nothing of its own."""
        ids = list(text.encode("utf-8", errors="replace"))
        for token_id, special in SPECIAL.items():
            if special in text:
                ids = _merge(ids, list(special.encode()), token_id)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones included."""
        return b"".join(map(self.piece, ids)).decode("utf-8", errors="replace")

    def piece(self, token_id: int) -> bytes:
        """Exact bytes of a token."""
        if 0 <= token_id < 256:
            return bytes((token_id,))
        if token_id in SPECIAL:
            return SPECIAL[token_id].encode()
        raise InvalidArgument(
            f"Token ID {token_id} is outside the vocabulary: IDs go from 0 to "
            f"{VOCABULARY_SIZE - 1}."
        )

    def decoder(
        self, prompt: Sequence[int] = (), *, keep: frozenset[str] = frozenset()
    ) -> "EchoDecoder":
        """A fresh decoder."""
        return EchoDecoder({id: text for id, text in SPECIAL.items() if text in keep})

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt of a conversation."""
        return "".join(text for text, _ in _parts(messages, tools, add_generation_prompt))

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        opening: str = "",
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> list[int]:
        """Tokens of a conversation's prompt, opened for an answer."""
        ids: list[int] = []
        for text, own in [*_parts(messages, tools, True), (opening, True)]:
            ids += self.encode(text) if own else text.encode("utf-8", errors="replace")
        return ids


class EchoDecoder:
    """Decodes bytes as they come."""

    def __init__(self, kept: Mapping[int, str]) -> None:
        self._kept = kept
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """Returns what became certain; special tokens give nothing unless they are kept."""
        if 0 <= token_id < 256:
            return self._utf8.decode(bytes((token_id,)))
        return self._utf8.decode(self._kept.get(token_id, "").encode())

    def flush(self) -> str:
        """Returns what is left."""
        return self._utf8.decode(b"", final=True)


def echoed(prompt: Sequence[int]) -> list[int]:
    """What the echo engine answers.

    That is the user's last message or, where there is no conversation, the whole prompt.
    """
    turns = _turns(prompt)
    if not turns:
        return [token for token in prompt if token < 256]
    user = [content for role, content in turns if role == "user"]
    return user[-1] if user else turns[-1][1]


def _turns(prompt: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Completed turns of a ChatML prompt: role and content."""
    turns: list[tuple[str, list[int]]] = []
    current: list[int] | None = None
    for token in prompt:
        if token == IM_START:
            current = []
        elif token == IM_END and current is not None:
            role, _, content = bytes(current).partition(b"\n")
            turns.append((role.decode("utf-8", errors="replace"), list(content)))
            current = None
        elif current is not None and token < 256:
            current.append(token)
    return turns


def _parts(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
) -> Iterator[tuple[str, bool]]:
    """Parts of a prompt, and whether each is the template's own."""
    rest = list(messages)
    if tools:
        lead = ""
        if rest and rest[0]["role"] == "system":
            lead = _text(rest.pop(0)) + "\n\n"
        declared = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
        yield from _turn("system", lead + TOOLS_HEAD + declared + TOOLS_FOOT)
    for message in rest:
        calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
        called = "".join(
            f"\n<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
            for call in calls
        )
        yield from _turn(str(message["role"]), _text(message) + called)
    if add_generation_prompt:
        yield f"{SPECIAL[IM_START]}assistant\n", True


def _turn(role: str, content: str) -> Iterator[tuple[str, bool]]:
    yield f"{SPECIAL[IM_START]}{role}\n", True
    yield content, False
    yield f"{SPECIAL[IM_END]}\n", True


def _text(message: Mapping[str, Any]) -> str:
    content: Any = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    raise InvalidArgument("The echo engine takes text content only.", field="messages")


def _merge(ids: list[int], spelled: list[int], token_id: int) -> list[int]:
    """Replaces each run of bytes that spells a special token by the token."""
    merged: list[int] = []
    position = 0
    while position < len(ids):
        if ids[position : position + len(spelled)] == spelled:
            merged.append(token_id)
            position += len(spelled)
        else:
            merged.append(ids[position])
            position += 1
    return merged
