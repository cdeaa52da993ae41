"""Checkpoints by the names that WebUI clients have for them. No I/O."""

import re
from collections.abc import Iterator, Sequence

from penstock.image.v1 import sampler_pb2

_TITLE = re.compile(r"(.*?)\s*\[([0-9a-f]{6,64})\]", re.IGNORECASE | re.DOTALL)
_SHORTEST_HASH = 6


def model_of(name: str, checkpoints: Sequence[sampler_pb2.Checkpoint]) -> str:
    """Returns the ID of the model that a checkpoint's title, name, file or hash means.

    A name that means none of them, or several, is returned as it is: the service knows more names,
    and refuses what it can't tell.
    """
    wanted = name.strip().casefold()
    found = _matching(wanted, checkpoints)
    title = _TITLE.fullmatch(wanted)
    if not found and title is not None:
        named, hashed = (_matching(part, checkpoints) for part in title.groups())
        # Files are renamed, and names used again: the hash tells more.
        found = [checkpoint for checkpoint in named if checkpoint in hashed] or hashed or named
    return found[0].model if len(found) == 1 else name.strip()


def drawn_with(
    model: str, checkpoints: Sequence[sampler_pb2.Checkpoint]
) -> sampler_pb2.Checkpoint | None:
    """Returns the checkpoint that a model's name means; None where it is none of them.

    An empty `model` is the one that the service takes by itself: the one that is loaded.
    """
    meant = model_of(model, checkpoints) if model else ""
    for checkpoint in checkpoints:
        if checkpoint.model == meant if meant else checkpoint.loaded:
            return checkpoint
    return checkpoints[0] if checkpoints and not meant else None


def title_of(model: str, checkpoints: Sequence[sampler_pb2.Checkpoint]) -> tuple[str, str]:
    """Returns title and hash of the checkpoint that is drawn with."""
    checkpoint = drawn_with(model, checkpoints)
    return (model, "") if checkpoint is None else (checkpoint.title, checkpoint.sha256)


def _matching(
    wanted: str, checkpoints: Sequence[sampler_pb2.Checkpoint]
) -> list[sampler_pb2.Checkpoint]:
    return [
        checkpoint
        for checkpoint in checkpoints
        if wanted in _names(checkpoint) or _begins(checkpoint.sha256, wanted)
    ]


def _names(checkpoint: sampler_pb2.Checkpoint) -> list[str]:
    return [name.casefold() for name in _raw_names(checkpoint) if name]


def _raw_names(checkpoint: sampler_pb2.Checkpoint) -> Iterator[str]:
    yield checkpoint.title
    yield checkpoint.model
    yield checkpoint.checkpoint_name
    yield checkpoint.filename
    yield checkpoint.short_hash
    yield checkpoint.sha256


def _begins(sha256: str, text: str) -> bool:
    return len(text) >= _SHORTEST_HASH and sha256.casefold().startswith(text)
