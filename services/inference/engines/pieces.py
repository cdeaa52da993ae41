"""Exact bytes of a tokenizer's tokens."""

import json
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, cast

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Scheme(Enum):
    """How a vocabulary writes bytes."""

    BYTE_LEVEL = auto()
    """One printable character per byte (GPT-2, Llama 3, Qwen)."""
    SENTENCEPIECE = auto()
    """`▁` for a space, `<0xNN>` for a byte (Llama 2, Mistral, Gemma)."""
    OTHER = auto()
    """WordPiece and the like: text depends on neighbours."""


class Pieces:
    """Bytes of each token, where the scheme knows them without its neighbours."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        decoder = cast("dict[str, Any]", json.loads(tokenizer.to_str()).get("decoder") or {})
        nodes = list(_nodes(decoder))
        kinds = {node.get("type") for node in nodes}
        self.scheme = Scheme.OTHER
        if "ByteLevel" in kinds:
            self.scheme = Scheme.BYTE_LEVEL
        elif kinds & {"Metaspace", "ByteFallback"} or any(_replaces_space(n) for n in nodes):
            self.scheme = Scheme.SENTENCEPIECE
        self.drops_first_space = any(
            (
                node.get("type") == "Strip"
                and node.get("content") == " "
                and node.get("start", 0) > 0
            )
            or (
                node.get("type") == "Metaspace"
                and node.get("prepend_scheme", "always") != "never"
                and node.get("add_prefix_space", True)
            )
            for node in nodes
        )
        self._tokenizer = tokenizer
        self._literal = {
            token_id: token.content
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._cache: dict[int, bytes] = {}

    def __getitem__(self, token_id: int) -> bytes:
        piece = self._cache.get(token_id)
        if piece is None:
            piece = self._cache[token_id] = self._piece(token_id)
        return piece

    def _piece(self, token_id: int) -> bytes:
        if token_id in self._literal:
            return self._literal[token_id].encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # a hole, or padding of the model's vocabulary
            return b""
        if self.scheme is Scheme.BYTE_LEVEL:
            return _from_byte_level(token)
        if self.scheme is Scheme.SENTENCEPIECE:
            if match := _BYTE.fullmatch(token):
                return bytes((int(match.group(1), 16),))
            return token.replace("▁", " ").encode()
        return token.removeprefix("##").encode() if token.startswith("##") else f" {token}".encode()


def _from_byte_level(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        return token.encode()


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(rest)}


_BYTE_OF = _byte_of()


def _nodes(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield decoder
    for child in cast("list[dict[str, Any]]", decoder.get("decoders") or []):
        yield from _nodes(child)


def _replaces_space(node: dict[str, Any]) -> bool:
    return node.get("type") == "Replace" and node.get("pattern") == {"String": "▁"}
