"""`penstock models`: what is served, and what shall be."""

import asyncio
from pathlib import Path

import click
from penstock.model.v1 import model_pb2, model_service_pb2

from services.cli.catalog import KINDS, UNARY_TIMEOUT_S, get_model, list_models, resource_name
from services.cli.config_fields import apply_settings, config_facts
from services.cli.failures import Failure
from services.cli.output import to_dict
from services.cli.session import Session, client_command
from services.cli.views import model_facts, model_rows, watch

QUANTIZATIONS = ("auto", "float32", "bfloat16", "float16", "int8", "fp8")


@click.group()
def models() -> None:
    """List, deploy, remove and configure models."""


@models.command("list")
@click.option("--kind", type=click.Choice(list(KINDS)), multiple=True, help="Only these kinds.")
@client_command
def list_(session: Session, kind: tuple[str, ...]) -> None:
    """List all models."""

    async def run() -> list[model_pb2.Model]:
        async with session.models() as stub:
            return await list_models(stub, [KINDS[name] for name in kind])

    found = asyncio.run(run())
    if session.output.as_json:
        session.output.data([to_dict(model) for model in found])
    elif found:
        session.output.table(
            ("model", "kind", "state", "context", "revision", ""), model_rows(found)
        )
    else:
        session.output.note("No models. `penstock models deploy` adds one.")


@models.command()
@click.argument("model")
@client_command
def get(session: Session, model: str) -> None:
    """Show one model, by ID or alias."""

    async def run() -> model_pb2.Model:
        async with session.models() as stub:
            return await get_model(stub, model)

    found = asyncio.run(run())
    if session.output.as_json:
        session.output.data(to_dict(found))
    else:
        session.output.facts(model_facts(found))


@models.command()
@click.argument("model")
@click.option("--source", required=True, help="Folder, or ID of a fine-tuned model.")
@click.option("--kind", type=click.Choice(list(KINDS)), default="chat", show_default=True)
@click.option("--base-model", default="", help="Model that it was fine-tuned from or adapts.")
@click.option("--name", "display_name", default="", help="Name for people.")
@click.option("--alias", "aliases", multiple=True, help="Another ID; may be given again.")
@click.option("--context-length", type=click.IntRange(min=0), default=0, help="Most tokens.")
@click.option("--dimensions", type=click.IntRange(min=0), default=0, help="Of embeddings.")
@click.option("--quantization", type=click.Choice(QUANTIZATIONS), help="Number type.")
@click.option("--engine", default="", help="Engine that serves it.")
@click.option("--update", is_flag=True, help="Deploy a new revision when the model exists.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it serves.")
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, help="Seconds to wait.")
@client_command
def deploy(
    session: Session,
    model: str,
    source: str,
    kind: str,
    base_model: str,
    display_name: str,
    aliases: tuple[str, ...],
    context_length: int,
    dimensions: int,
    quantization: str | None,
    engine: str,
    update: bool,
    wait: bool,
    timeout: float,
) -> None:
    """Deploy a model, or with --update a new revision of one."""
    if Path(source).is_dir():
        source = str(Path(source).resolve())  # the server has another working directory
    request = model_service_pb2.DeployModelRequest(
        model_id=model,
        source=source,
        kind=KINDS[kind],
        base_model=base_model,
        display_name=display_name,
        aliases=aliases,
        allow_update=update,
        load_options=model_pb2.LoadOptions(
            context_length=context_length,
            dimensions=dimensions,
            quantization=quantization or "",
            engine=engine,
        ),
    )

    async def run() -> model_pb2.Model:
        async with session.models() as stub:
            deployed = await stub.DeployModel(request, timeout=UNARY_TIMEOUT_S)
            if wait:
                deployed = await watch(stub, deployed, session.output, timeout)
            return deployed

    result = asyncio.run(run())
    if session.output.as_json:
        session.output.data(to_dict(result))
    _report_deployed(session, model, result, wait)


def _report_deployed(session: Session, model: str, result: model_pb2.Model, wait: bool) -> None:
    failed = [
        observation.message
        for observation in result.observations
        if observation.state == model_pb2.Observation.STATE_FAILED
        and observation.revision == result.revision.name
    ]
    serves = result.state == model_pb2.Model.STATE_READY
    if result.state == model_pb2.Model.STATE_FAILED or (wait and failed):
        why = result.state_message or next(iter(failed), "") or "no reason was given"
        raise Failure(
            f"{model} can't be loaded: {why}",
            hint="The revision before it keeps serving." if serves else "",
        )
    if wait:
        session.output.say(f"{model} is ready.")
    else:
        session.output.say(f"{model} is being deployed. `penstock models get {model}` shows it.")


@models.command()
@click.argument("model")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@client_command
def remove(session: Session, model: str, yes: bool) -> None:
    """Remove a model from the catalogue. Its files stay where they are."""
    if not yes and not session.output.as_json:
        click.confirm(f"Remove {model}? Running requests finish first", abort=True, err=True)

    async def run() -> None:
        request = model_service_pb2.DeleteModelRequest(name=resource_name(model))
        async with session.models() as stub:
            await stub.DeleteModel(request, timeout=UNARY_TIMEOUT_S)

    asyncio.run(run())
    if session.output.as_json:
        session.output.data({"removed": model})
    session.output.say(f"{model} is removed.")


@models.command()
@click.argument("model")
@click.argument("aliases", nargs=-1)
@client_command
def alias(session: Session, model: str, aliases: tuple[str, ...]) -> None:
    """Set the other IDs of a model; none drops them all."""

    async def run() -> model_pb2.Model:
        request = model_service_pb2.SetModelAliasesRequest(
            name=resource_name(model), aliases=aliases
        )
        async with session.models() as stub:
            return await stub.SetModelAliases(request, timeout=UNARY_TIMEOUT_S)

    changed = asyncio.run(run())
    if session.output.as_json:
        session.output.data(to_dict(changed))
    else:
        session.output.facts(model_facts(changed))


@models.group()
def config() -> None:
    """Show and change settings that apply while a model serves."""


@config.command("get")
@click.argument("model")
@client_command
def config_get(session: Session, model: str) -> None:
    """Show the settings of a model."""

    async def run() -> model_pb2.ModelConfig:
        request = model_service_pb2.GetModelConfigRequest(name=resource_name(model))
        async with session.models() as stub:
            return await stub.GetModelConfig(request, timeout=UNARY_TIMEOUT_S)

    _show_config(session, asyncio.run(run()))


@config.command("set")
@click.argument("model")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--etag", default="", help="Only if the settings are still those of this etag.")
@client_command
def config_set(session: Session, model: str, settings: tuple[str, ...], etag: str) -> None:
    """Change settings of a model: KEY=VALUE sets one, KEY= puts its default back.

    Lists are written as JSON: stop='["END"]'.
    """
    config, mask = apply_settings(settings)
    config.name = f"{resource_name(model)}/config"
    config.etag = etag

    async def run() -> model_pb2.ModelConfig:
        request = model_service_pb2.UpdateModelConfigRequest(config=config, update_mask=mask)
        async with session.models() as stub:
            return await stub.UpdateModelConfig(request, timeout=UNARY_TIMEOUT_S)

    _show_config(session, asyncio.run(run()))


def _show_config(session: Session, config: model_pb2.ModelConfig) -> None:
    if session.output.as_json:
        session.output.data(to_dict(config))
    else:
        session.output.facts(config_facts(config))
