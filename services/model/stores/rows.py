"""Rows of the tables to records and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from services.model.records import (
    Capabilities,
    Entry,
    LoadOptions,
    ModelConfig,
    ModelKind,
    Observation,
    ObservedState,
    Receipt,
    Reporter,
    Revision,
)

Row = Mapping[Any, Any]


def entry_row(entry: Entry) -> dict[str, Any]:
    """Makes a row of MODELS."""
    return {
        "id": entry.id,
        "uid": entry.uid,
        "kind": entry.kind.value,
        "display_name": entry.display_name,
        "owned_by": entry.owned_by,
        "base_model": entry.base_model,
        "revision": entry.revision.number,
        "first_revision": entry.first_revision,
        "config": msgspec.to_builtins(entry.config),
        "config_version": entry.config_version,
        "seed": entry.seed,
        "stopped": entry.stopped,
        "create_time": entry.create_time,
        "update_time": entry.update_time,
    }


def to_entry(
    row: Row, revision: Revision, aliases: Sequence[str], observations: Sequence[Observation]
) -> Entry:
    """Reads a row of MODELS, with what belongs to it."""
    return Entry(
        id=row["id"],
        uid=row["uid"],
        kind=ModelKind(row["kind"]),
        display_name=row["display_name"],
        owned_by=row["owned_by"],
        base_model=row["base_model"],
        aliases=tuple(aliases),
        revision=revision,
        config=msgspec.convert(row["config"], ModelConfig),
        config_version=row["config_version"],
        seed=row["seed"],
        stopped=bool(row["stopped"]),
        first_revision=row["first_revision"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        observations=tuple(observations),
    )


def revision_row(revision: Revision) -> dict[str, Any]:
    """Makes a row of REVISIONS."""
    return {
        "model_id": revision.model_id,
        "number": revision.number,
        "source": revision.source,
        "load_options": msgspec.to_builtins(revision.load_options),
        "create_time": revision.create_time,
    }


def to_revision(row: Row) -> Revision:
    """Reads a row of REVISIONS."""
    return Revision(
        model_id=row["model_id"],
        number=row["number"],
        source=row["source"],
        create_time=row["create_time"],
        load_options=msgspec.convert(row["load_options"], LoadOptions),
    )


def observation_row(observation: Observation) -> dict[str, Any]:
    """Makes a row of OBSERVATIONS."""
    able = observation.capabilities
    return {
        "reporter": observation.reporter,
        "model_id": observation.model_id,
        "revision": observation.revision,
        "state": observation.state.value,
        "message": observation.message,
        "progress": observation.progress,
        "capabilities": None if able is None else msgspec.to_builtins(able),
        "parameter_count": observation.parameter_count,
        "template_name": observation.template_name,
        "address": observation.address,
    }


def to_observation(row: Row) -> Observation:
    """Reads a row of OBSERVATIONS joined with its reporter's `report_time`."""
    able = row["capabilities"]
    return Observation(
        reporter=row["reporter"],
        model_id=row["model_id"],
        revision=row["revision"],
        state=ObservedState(row["state"]),
        report_time=row["report_time"],
        message=row["message"],
        progress=row["progress"],
        capabilities=None if able is None else msgspec.convert(able, Capabilities),
        parameter_count=row["parameter_count"],
        template_name=row["template_name"],
        address=row["address"],
    )


def to_reporter(row: Row) -> Reporter:
    """Reads a row of REPORTERS."""
    return Reporter(row["id"], row["service"], row["address"], row["report_time"])


def to_receipt(row: Row) -> Receipt:
    """Reads a row of RECEIPTS."""
    return Receipt(row["key"], row["fingerprint"], row["uid"], row["revision"], row["create_time"])
