"""`penstock triton`: models for Triton Inference Server."""

import asyncio
from pathlib import Path
from typing import Any

import click
from penstock.model.v1 import model_pb2

from services.cli.catalog import get_model, kind_name, model_id
from services.cli.failures import Failure, UsageFailure
from services.cli.session import Session, client_command
from services.cli.triton_export import EXPORTERS, Order, export, kind_of
from services.settings_triton import repository_name

_COUNT = click.IntRange(min=0)
_ANY_NUMBER = "0 is any number."


@click.group()
def triton() -> None:
    """Write models for Triton Inference Server."""


@triton.command("export")
@click.argument("model")
@click.option(
    "-o",
    "--repository",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Triton's model repository; is made where it is missing.",
)
@click.option("--name", help="Name in the repository. Default: the model's ID, or its folder's.")
@click.option("--kind", type=click.Choice(list(EXPORTERS)), help="Default: what the model says.")
@click.option(
    "--layout",
    help="Text: python, vllm, tensorrt_llm. Embedding, rerank: python, onnx, tensorrt. Image: "
    "python.",
)
@click.option("--weights", help="copy (default), link, or the path where Triton finds them.")
@click.option("--dtype", help="Of the weights: auto, float32, bfloat16, float16.")
@click.option("--gpu", "gpus", type=_COUNT, multiple=True, help="GPU that runs it; none: the CPU.")
@click.option("--instances", type=click.IntRange(min=1), help="On each GPU, or the CPU.")
@click.option("--threads", type=_COUNT, help="Of an instance on the CPU. 0: torch's default.")
@click.option("--context-length", type=_COUNT, help="Most tokens. 0: the model's own.")
@click.option("--max-batch-size", type=_COUNT, help="Most inputs computed together.")
@click.option("--queue-delay-us", type=_COUNT, help="How long a request waits for company.")
@click.option("--preferred-batch-size", "preferred_batch_sizes", type=_COUNT, multiple=True)
@click.option("--queue-size", type=_COUNT, help=f"Most requests that wait. {_ANY_NUMBER}")
@click.option("--queue-timeout", "queue_timeout_s", type=float, help="Longest wait, in seconds.")
@click.option("--timeout-action", help="What then becomes of a request: reject, delay.")
@click.option("--priority-levels", type=_COUNT, help="That requests may name. 0: none.")
@click.option("--response-cache", is_flag=True, default=None, help="Answer equal requests from it.")
@click.option("--rate-limit", multiple=True, help="NAME:COUNT, or NAME:COUNT:global.")
@click.option("--rate-priority", type=_COUNT, help="Weight in the rate limiter.")
@click.option("--warmup/--no-warmup", default=None, help="Compute samples before it is ready.")
@click.option("--precision", help="Of a TensorRT engine: fp32, fp16, bf16, int8, fp8.")
@click.option("--profile", help="Of a TensorRT engine: least,best,most, such as 1x16,8x64,64x256.")
@click.option("--overwrite", is_flag=True, default=None, help="Replace a model of that name.")
@client_command
def export_(session: Session, model: str, repository: Path, kind: str | None, **given: Any) -> None:
    """Write a model repository for Triton, documented and ready to serve.

    MODEL is a folder, or the ID of a deployed model. What a part of the layouts needs a GPU for is
    written into the README beside the model.
    """
    options = {name: value for name, value in given.items() if value not in (None, ())}
    folder = Path(model).expanduser()
    if folder.is_dir():
        kind = kind or kind_of(folder)
        options.setdefault("name", folder.resolve().name)
    else:
        found = asyncio.run(_deployed(session, model))
        folder = _source(found)
        kind = kind or kind_name(found.kind)
        options.setdefault("name", repository_name(model_id(found)))
    if kind not in EXPORTERS:
        raise UsageFailure(
            f"What “{folder.name}” holds is not clear from its files: name it by --kind."
            if not kind
            else f"A model of the kind {kind} is not exported: {', '.join(EXPORTERS)} are."
        )
    session.output.note(f"Exporting {folder} …")
    written = export(Order(folder, repository, kind, options))
    if session.output.as_json:
        session.output.data({"kind": kind, "written": written})
    for path in written:
        session.output.say(f"Wrote {path}: its README.md says how to serve it.")


async def _deployed(session: Session, model: str) -> model_pb2.Model:
    async with session.models() as stub:
        return await get_model(stub, model)


def _source(model: model_pb2.Model) -> Path:
    folder = Path(model.revision.source).expanduser()
    if not folder.is_dir():
        raise Failure(
            f"The folder of `{model_id(model)}` is not on this machine: export it where it is, or "
            f"name a copy of it."
        )
    return folder
