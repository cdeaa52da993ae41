"""Models as people read them."""

import asyncio
from collections.abc import Iterable, Iterator

from penstock.model.v1 import model_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from services.cli.catalog import (
    get_model,
    is_settled,
    kind_name,
    model_id,
    progress_of,
    state_name,
)
from services.cli.failures import Failure
from services.cli.output import Output, printable, state_text

POLL_S = 0.25


def model_rows(models: Iterable[model_pb2.Model]) -> Iterator[tuple[str | Text, ...]]:
    """Returns one row per model: ID, kind, state, context, revision, remark."""
    for model in models:
        context = model.capabilities.context_length
        yield (
            Text(printable(model_id(model)), style="bold"),
            kind_name(model.kind),
            state_text(state_name(model)),
            f"{context:,}" if context else "",
            model.revision.name.rpartition("/")[2],
            printable(remark(model)),
        )


def remark(model: model_pb2.Model) -> str:
    """Returns what else a list says of a model: why it failed, how far it is, its other names."""
    if model.state == model_pb2.Model.STATE_FAILED:
        return model.state_message
    progress = progress_of(model)
    if progress is not None:
        return f"{progress:.0%}"
    return f"alias {', '.join(model.aliases)}" if model.aliases else ""


def model_facts(model: model_pb2.Model) -> dict[str, str | Text]:
    """Returns everything about one model."""
    able = model.capabilities
    features = [
        name.name
        for name, value in able.ListFields()
        if value is True and name.name not in {"sampling_fields"}
    ]
    serving = [name.rpartition("/")[2] for name in model.serving_revisions]
    facts: dict[str, str | Text] = {
        "model": model_id(model),
        "name": model.display_name,
        "kind": kind_name(model.kind),
        "state": state_text(state_name(model)),
        "why": model.state_message,
        "aliases": ", ".join(model.aliases),
        "source": model.revision.source,
        "revision": model.revision.name.rpartition("/")[2],
        "serving": ", ".join(serving),
        "base model": model.base_model,
        "parameters": f"{model.parameter_count:,}" if model.parameter_count else "",
        "context": f"{able.context_length:,} tokens" if able.context_length else "",
        "dimensions": f"{able.dimensions:,}" if able.dimensions else "",
        "can do": ", ".join(features),
        "template": model.template_name,
        "owner": model.owned_by,
        "from": "a call" if model.deployed_by_api else "the configuration file",
        "created": _time(model.create_time.ToJsonString() if model.HasField("create_time") else ""),
    }
    for observation in model.observations:
        state = model_pb2.Observation.State.Name(observation.state).removeprefix("STATE_").lower()
        detail = f" · {observation.message}" if observation.message else ""
        revision = observation.revision.rpartition("/")[2]
        facts[f"on {observation.reporter}"] = printable(f"{state} · revision {revision}{detail}")
    return {
        name: value if isinstance(value, Text) else printable(value)
        for name, value in facts.items()
    }


def _time(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC" if text else ""


def progress_bars(output: Output) -> Progress:
    """Returns the display for models that load."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[state]}", style="dim"),
        TimeElapsedColumn(),
        console=output.err,
        transient=True,
        disable=output.as_json or not output.err.is_terminal,
    )


async def watch(
    stub: ModelServiceStub, model: model_pb2.Model, output: Output, timeout_s: float
) -> model_pb2.Model:
    """Follows a model, with a progress bar, until its wanted revision serves or failed."""
    revision = model.revision.name
    try:
        async with asyncio.timeout(timeout_s):
            with progress_bars(output) as bars:
                bar = bars.add_task(printable(model_id(model)), total=1.0, state="")
                while not (is_settled(model) or _failed(model, revision)):
                    progress = progress_of(model)
                    bars.update(
                        bar, total=1.0 if progress else None, completed=progress or 0.0,
                        state=state_name(model),
                    )  # fmt: skip
                    await asyncio.sleep(POLL_S)
                    model = await get_model(stub, model_id(model))
    except TimeoutError:
        raise Failure(
            f"{model_id(model)} is still {state_name(model)} after {timeout_s:.0f} s.",
            hint="It goes on loading; `penstock models get` shows where it stands.",
        ) from None
    return model


def _failed(model: model_pb2.Model, revision: str) -> bool:
    """Tells whether a new revision can't be loaded while an older one serves."""
    observed = [seen.state for seen in model.observations if seen.revision == revision]
    return bool(observed) and set(observed) == {model_pb2.Observation.STATE_FAILED}
