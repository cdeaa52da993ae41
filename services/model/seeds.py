"""Models of the configuration file, brought into the catalogue at every start.

Level-triggered: what is already as the file says stays untouched, with the settings and aliases
that calls gave it since. A changed entry makes a new revision where its weights or their loading
changed. What left the file is stopped.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from services.errors import InvalidArgument
from services.model.catalog import OWNER, Catalog
from services.model.checks import check_aliases
from services.model.names import check_model_id
from services.model.records import Entry, LoadOptions, ModelConfig, ModelKind, Revision
from services.model.store import Writing

_log = logging.getLogger(__name__)
_RANGES = {"default_temperature": (0, 2), "default_steps": (1, 1000), "default_cfg_scale": (0, 100)}
"""Of the settings that the file may have."""


@dataclass(frozen=True, slots=True)
class Seed:
    """An entry `[api.models.<id>]` of the configuration file."""

    id: str
    source: str
    kind: ModelKind
    context_length: int = 0
    dimensions: int = 0
    default_temperature: float | None = None
    aliases: tuple[str, ...] = ()
    default_steps: int | None = None
    default_cfg_scale: float | None = None

    @property
    def load_options(self) -> LoadOptions:
        """How the weights are loaded."""
        return LoadOptions(context_length=self.context_length, dimensions=self.dimensions)

    @property
    def settings(self) -> dict[str, float | None]:
        """The file's settings, which may change while the model serves."""
        return {name: getattr(self, name) for name in _RANGES}

    def check(self) -> None:
        """Raises `InvalidArgument` where the entry can't be a model."""
        check_model_id(self.id, "api.models")
        check_aliases(self.aliases, self.id)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InvalidArgument(
                    f"{name} of {self.id!r} is {value}: it ranges from {least} to {most}.",
                    field="api.models",
                )
        if self.context_length < 0 or self.dimensions < 0:
            raise InvalidArgument(
                f"context_length and dimensions of {self.id!r} must not be negative.",
                field="api.models",
            )

    def text(self) -> str:
        """Returns the entry as JSON, to compare."""
        return msgspec.json.encode(self).decode()


async def plant(catalog: Catalog, seeds: Sequence[Seed]) -> None:
    """Makes the catalogue hold what the configuration file says, all or nothing."""
    _check(seeds)
    now = catalog.clock()
    async with catalog.writing() as tx:
        before = {entry.id: entry for entry in await tx.entries()}
        after = {
            entry.id: _stopped(entry)
            for entry in before.values()
            if entry.id not in {seed.id for seed in seeds}
        }
        for seed in seeds:
            after[seed.id] = await _planted(tx, seed, before.get(seed.id), now)
        # A model that was renamed, with its old ID as an alias, takes the place of the old one.
        for alias in {alias for seed in seeds for alias in seed.aliases}:
            if alias in after and after[alias].stopped:
                del after[alias]
        changed = {seed.id for seed in seeds if after[seed.id] != before.get(seed.id)}
        await _write(tx, before, _named(after, changed), now)


def _check(seeds: Sequence[Seed]) -> None:
    owners = {seed.id: seed.id for seed in seeds}
    for seed in seeds:
        seed.check()
        for alias in seed.aliases:
            if (owner := owners.setdefault(alias, seed.id)) != seed.id:
                raise InvalidArgument(
                    f"{alias!r} can't lead to {seed.id!r} and to {owner!r}: name it once.",
                    field="api.models",
                )


def _stopped(entry: Entry) -> Entry:
    if not entry.seed or entry.stopped:
        return entry
    _log.info("model %s left the configuration file: stopped", entry.id)
    return replace(entry, stopped=True, aliases=())


async def _planted(tx: Writing, seed: Seed, old: Entry | None, now: datetime) -> Entry:
    """Returns the entry as the seed wants it: `old` itself where nothing is to be done."""
    if old and old.seed == seed.text() and not old.stopped:
        return old
    if old and not old.seed:
        _log.error(
            "model %s was deployed by a call, and the configuration file has one of that ID: the "
            "file's is served from now on. Give one of them another ID.",
            seed.id,
        )
    same_weights = old is not None and (
        (old.kind, old.revision.source, old.revision.load_options)
        == (seed.kind, seed.source, seed.load_options)
    )
    if old and same_weights:
        revision = old.revision
    else:
        number = await tx.next_revision(seed.id)
        revision = Revision(seed.id, number, seed.source, now, seed.load_options)
    config = replace(ModelConfig(), **seed.settings)
    if old and old.kind is seed.kind:
        return replace(
            old,
            aliases=seed.aliases,
            revision=revision,
            config=_config(old, seed),
            seed=seed.text(),
            stopped=False,
        )
    return Entry(
        id=seed.id,
        uid=str(uuid.uuid4()),
        kind=seed.kind,
        display_name=seed.id,
        owned_by=OWNER,
        base_model="",
        aliases=seed.aliases,
        revision=revision,
        config=config,
        config_version=0,
        seed=seed.text(),
        stopped=False,
        first_revision=revision.number,
        create_time=now,
        update_time=now,
    )


def _config(old: Entry, seed: Seed) -> ModelConfig:
    """Takes the file's settings where the file's changed; others stay."""
    before = msgspec.json.decode(old.seed, type=Seed).settings if old.seed else {}
    changed = {n: value for n, value in seed.settings.items() if value != before.get(n)}
    return replace(old.config, **changed)


def _named(entries: Mapping[str, Entry], changed: set[str]) -> dict[str, Entry]:
    """Gives every name to one model: IDs first, then what the file newly says, then the rest."""
    owners = {model_id: model_id for model_id in entries}
    named: dict[str, Entry] = {}
    for model_id in sorted(entries, key=lambda model_id: (model_id not in changed, model_id)):
        entry = entries[model_id]
        kept = tuple(a for a in entry.aliases if owners.setdefault(a, model_id) == model_id)
        for alias in set(entry.aliases) - set(kept):
            _log.error(
                "%s is no longer an alias of model %s: it leads to model %s",
                alias,
                model_id,
                owners[alias],
            )
        if kept != entry.aliases:
            entry = replace(entry, aliases=kept, seed=_without(entry, kept))
        named[model_id] = entry
    return named


def _without(entry: Entry, kept: tuple[str, ...]) -> str:
    """Returns the seed as far as it was followed: the rest is tried at the next start."""
    if not entry.seed:
        return ""
    seed = msgspec.json.decode(entry.seed, type=Seed)
    return replace(seed, aliases=tuple(a for a in seed.aliases if a in kept)).text()


async def _write(
    tx: Writing, before: Mapping[str, Entry], after: Mapping[str, Entry], now: datetime
) -> None:
    changed = [entry for entry in after.values() if entry != before.get(entry.id)]
    # Names are freed before they are given away.
    for old in before.values():
        entry = after.get(old.id)
        if entry is None or old.uid != entry.uid:
            await tx.record(old, now)
            await tx.remove(old)
        elif entry in changed:
            await tx.put(replace(old, aliases=()))
    for entry in changed:
        sequence = await tx.record(entry, now)
        old = before.get(entry.id)
        same_config = old is not None and old.uid == entry.uid and old.config == entry.config
        version = entry.config_version if same_config else sequence
        await tx.put(replace(entry, config_version=version, update_time=now))
