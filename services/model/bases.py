"""Models that were made from others: what a base must be, and who needs one."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from services.adapters import holds_adapter
from services.errors import FailedPrecondition, InvalidArgument
from services.model.records import DeployRequest, Entry, ModelConfig, ModelKind
from services.model.store import Reading

_TEXT = frozenset({ModelKind.CHAT, ModelKind.COMPLETION})


async def with_base(tx: Reading, request: DeployRequest, old: Entry | None) -> DeployRequest:
    """Returns the request with the ID of its base, which may be named by an alias.

    Raises:
        InvalidArgument: there is no such model, the model would be made from itself, or it is an
            adapter and can't be attached to the base, or not like this.
        FailedPrecondition: adapters are attached to what is to become one.
    """
    named = request.base_model or (old.base_model if old is not None else "")
    adapter = bool(named) and await is_adapter(request.source)
    if not request.base_model and not adapter:
        return request
    base = await _found(tx, named)
    ancestor: Entry | None = base
    for _ in range(len(await tx.entries())):
        if ancestor is None:
            break
        if ancestor.id == request.model_id:
            raise _wrong(f"{request.model_id!r} can't be made from itself: name another base.")
        ancestor = await _entry(tx, ancestor.base_model)
    if adapter:
        config = request.config or (old.config if old is not None else None)
        await _check_adapter(request, base, config)
        if old is not None:
            await check_unused(tx, old)  # what is attached to it can't be attached to an adapter
    return replace(request, base_model=base.id)


async def check_unused(tx: Reading, entry: Entry) -> None:
    """Raises `FailedPrecondition` where adapters are attached to a model."""
    others = [one for one in await tx.entries() if one.base_model == entry.id and not one.stopped]
    adapters = [repr(one.id) for one in others if await is_adapter(one.revision.source)]
    if adapters:
        raise FailedPrecondition(
            f"{entry.id!r} is the base of the adapter{'s' if len(adapters) > 1 else ''} "
            f"{', '.join(adapters)}: delete what is attached to it first."
        )


async def check_settings(entry: Entry, config: ModelConfig) -> None:
    """Raises `InvalidArgument` where an adapter is to have settings that only a base can have."""
    if config.max_batch_size and entry.base_model and await is_adapter(entry.revision.source):
        raise _of_the_base("config.max_batch_size", entry.base_model)


async def is_adapter(source: str) -> bool:
    """Whether a folder holds a LoRA adapter and no whole weights."""
    return await asyncio.to_thread(holds_adapter, Path(source))


async def _check_adapter(request: DeployRequest, base: Entry, config: ModelConfig | None) -> None:
    if request.kind not in _TEXT:
        raise InvalidArgument(
            "Adapters are served for the kinds chat and completion only.", field="kind"
        )
    if base.kind not in _TEXT:
        raise _wrong(f"{base.id!r} is of the kind {base.kind.value!r}, which takes no adapters.")
    if base.base_model and await is_adapter(base.revision.source):
        raise _wrong(
            f"{base.id!r} is an adapter itself: name the model below it, {base.base_model!r}."
        )
    options = request.load_options
    given: Sequence[tuple[str, object]] = (
        ("load_options.context_length", options.context_length),
        ("load_options.dimensions", options.dimensions),
        ("load_options.quantization", options.quantization not in ("", "auto")),
        ("load_options.engine", options.engine),
        ("config.max_batch_size", config is not None and config.max_batch_size),
    )
    for field, value in given:
        if value:
            raise _of_the_base(field, base.id)


def _of_the_base(field: str, base: str) -> InvalidArgument:
    return InvalidArgument(
        f"An adapter runs with its base's {field.split('.')[1]}: leave it unset here and set it "
        f"for {base!r}.",
        field=field,
    )


async def _found(tx: Reading, name: str) -> Entry:
    entry = await _entry(tx, name)
    if entry is None:
        raise _wrong(f"There is no model {name[:300]!r}: deploy the base first.")
    return entry


async def _entry(tx: Reading, name: str) -> Entry | None:
    model_id = await tx.resolve(name) if name else None
    return (await tx.entries(ids=[model_id]))[0] if model_id is not None else None


def _wrong(why: str) -> InvalidArgument:
    return InvalidArgument(why, field="base_model")
