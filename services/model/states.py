"""Tells where models and processes stand from what processes report."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from services.model.records import (
    Entry,
    Model,
    ModelState,
    Observation,
    ObservedState,
    ServiceState,
)

SILENCE = 3
"""Report intervals after which a silent process counts as gone."""


def alive(report_time: datetime, now: datetime, interval: timedelta) -> bool:
    """Tells whether a process that reported then still counts."""
    return now - report_time <= SILENCE * interval


def view(entry: Entry, now: datetime, interval: timedelta) -> Model:
    """Joins what is wanted with what live processes report."""
    live = tuple(o for o in entry.observations if alive(o.report_time, now, interval))
    serving = tuple(sorted({o.revision for o in live if o.state is ObservedState.READY})[::-1])
    wanted = entry.revision.number
    state, message = _state(entry, live, serving)
    shown = wanted if wanted in serving else (serving[0] if serving else None)
    by_reporter = sorted(live, key=lambda o: (o.revision, o.reporter), reverse=True)
    source = next(
        (o for o in by_reporter if o.revision == shown and o.state is ObservedState.READY), None
    )
    return Model(
        entry=entry,
        state=state,
        state_message=message,
        serving=serving,
        observations=tuple(by_reporter),
        capabilities=source.capabilities if source else None,
        parameter_count=source.parameter_count if source else 0,
        template_name=source.template_name if source else "",
    )


def outcome(model: Model, revision: int) -> ModelState:
    """Tells where one revision stands, however an older one serves."""
    if revision in model.serving:
        return ModelState.READY
    return _unserved(revision, model.observations)


def service_state(observations: Sequence[Observation], live: bool) -> ServiceState:
    """Tells what a process can do now."""
    states = {o.state for o in observations} if live else set[ObservedState]()
    if ObservedState.READY in states:
        return ServiceState.READY
    if ObservedState.LOADING in states:
        return ServiceState.LOADING
    return ServiceState.UNAVAILABLE


def _state(
    entry: Entry, live: Sequence[Observation], serving: Sequence[int]
) -> tuple[ModelState, str]:
    wanted = entry.revision.number
    if entry.stopped:
        return ModelState.STOPPED, "It is no longer in the configuration file."
    if wanted in serving:
        return ModelState.READY, _replicas(entry, live)
    state = _unserved(wanted, live)
    words = _words(wanted, state, live)
    if serving:
        return ModelState.READY, f"{words} Revision {serving[0]} serves."
    return state, words


def _unserved(revision: int, live: Iterable[Observation]) -> ModelState:
    """FAILED when a process could not load it and no other is still trying."""
    states = {o.state for o in live if o.revision == revision}
    if ObservedState.FAILED in states and ObservedState.LOADING not in states:
        return ModelState.FAILED
    return ModelState.DEPLOYING


def _words(revision: int, state: ModelState, live: Sequence[Observation]) -> str:
    mine = [o for o in live if o.revision == revision]
    if state is ModelState.FAILED:
        failed = (o.message for o in mine if o.state is ObservedState.FAILED)
        reason = next(filter(None, failed), "the serving process gave no reason")
        return f"Revision {revision} failed to load: {reason.rstrip('.')}."
    loading = [o for o in mine if o.state is ObservedState.LOADING]
    if loading:
        progress = max(o.progress for o in loading)
        waits = next(filter(None, (o.message for o in loading)), "")
        return f"Revision {revision} loads ({progress:.0%}). {waits}".rstrip()
    return f"Revision {revision} waits for a serving process."


def _replicas(entry: Entry, live: Sequence[Observation]) -> str:
    wanted = max(entry.revision.load_options.replicas, 1)
    mine = [o for o in live if o.revision == entry.revision.number]
    ready = sum(o.state is ObservedState.READY for o in mine)
    if ready >= wanted:
        return ""
    failed = next((o for o in mine if o.state is ObservedState.FAILED), None)
    why = f" {failed.reporter}: {failed.message.rstrip('.')}." if failed else ""
    return f"{ready} of {wanted} serving processes have loaded it.{why}"
