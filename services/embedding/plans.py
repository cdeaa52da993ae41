"""Checks a request against the model that shall serve it.

Nothing is ignored: what the model can't honour is refused by its field's path, as the proto spells
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.embedding.engine import EncoderInfo
from services.embedding.lengths import CUT_ADVICE, Room
from services.embedding.preparing import Form
from services.embedding.registry import ServedModel
from services.embedding.requests import Caller, Priority, Task, Truncation
from services.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    UnsupportedParameter,
)

_PROMPTS: Mapping[Task, tuple[str, ...]] = {
    Task.QUERY: ("query", "search_query", "retrieval-query", "retrieval.query"),
    Task.DOCUMENT: (
        "document",
        "passage",
        "corpus",
        "search_document",
        "retrieval-document",
        "retrieval.passage",
    ),
    Task.SIMILARITY: ("similarity", "sts", "text-matching"),
    Task.CLASSIFICATION: ("classification",),
    Task.CLUSTERING: ("clustering",),
}
"""What models call the prefix for a task, in lower case; the first that there is counts."""


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """What is to become of a model's vectors."""

    dimensions: int
    shortens: bool
    normalize: bool


def plan_vectors(served: ServedModel, dimensions: int | None, normalize: bool | None) -> VectorPlan:
    """Settles length and scale of vectors.

    Raises:
        InvalidArgument: they can't have so many dimensions.
        UnsupportedParameter: they can't be shortened.
    """
    info, own = served.info, served.loaded.dimensions
    asked = own if dimensions is None else dimensions
    if asked > own:
        raise InvalidArgument(
            f"'dimensions': the vectors of this model have {own} dimensions, not {asked}.",
            field="dimensions",
        )
    if asked < own and not info.shortening:
        raise UnsupportedParameter(
            f"'dimensions' is not supported by this model: its vectors have {own} dimensions and "
            f"can't be shortened.",
            field="dimensions",
        )
    shortens = asked < info.dimensions
    # A shortened vector lost a part of its length, and is scaled unless that is declined.
    return VectorPlan(
        dimensions=asked,
        shortens=shortens,
        normalize=(info.normalizes or shortens) if normalize is None else normalize,
    )


def prefix_of(info: EncoderInfo, task: Task, name: str = "") -> str:
    """Returns the prefix for a task, or that of a name.

    Raises `InvalidArgument` where the model has none of that name.
    """
    if name:
        if name in info.prompts:
            return info.prompts[name]
        known = ", ".join(f"'{prompt}'" for prompt in sorted(info.prompts)) or "none"
        raise InvalidArgument(
            f"'prompt_name': this model has no prefix '{name}'. It has {known}.",
            field="prompt_name",
        )
    by_name = {prompt.lower(): prompt for prompt in info.prompts}
    for candidate in _PROMPTS.get(task, ()):
        if candidate in by_name:
            return info.prompts[by_name[candidate]]
    return info.prompts.get(info.default_prompt, "")


def single_form(
    served: ServedModel,
    prefix: str,
    truncation: Truncation,
    most: int | None = None,
    *,
    advice: str = CUT_ADVICE,
) -> Form:
    """Returns how texts are embedded, each by itself."""
    encoder = served.loaded.encoder
    text, context_length = encoder.text, encoder.info.context_length
    room = context_length - text.overhead(prefix=prefix)
    if room < 1:
        raise FailedPrecondition(
            f"The prefix takes all of the {context_length} tokens that this model reads: deploy "
            f"it with a greater context length."
        )
    return Form(
        encoder=encoder,
        room=Room(room, context_length, truncation, most, advice),
        wrap=lambda ids: text.single(ids, prefix=prefix),
        prefix=prefix,
    )


def check_priority(priority: Priority, caller: Caller) -> None:
    """Refuses HIGH to callers who may not overtake others."""
    if priority is Priority.HIGH and not caller.may_hurry:
        raise PermissionDenied(
            "Priority HIGH needs the role 'admin'. Leave it out, or use a key that has it.",
            field="priority",
        )
