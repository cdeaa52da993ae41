"""`penstock image`: draws pictures, shows how it goes, and writes the files."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import grpc
from grpc import aio
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub

from services.cli.environment import terminal_environment
from services.cli.failures import Failure, UsageFailure, explain
from services.cli.graphics import Graphics, graphics_of
from services.cli.image_files import FORMATS, Destination, destination
from services.cli.image_request import Wishes, to_request
from services.cli.image_view import JsonView, TerminalView, View
from services.cli.session import Session, client_command

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("prompt")
@click.option(
    "--output", "-o", metavar="FILE", help="PNG, JPEG or WebP. Default: image-N.png; - is stdout."
)
@click.option("--force", "-f", is_flag=True, help="Overwrite files.")
@click.option("--model", "-m", help="ID or alias of an image model. Default: the service's.")
@click.option("--negative", "-n", default="", help="What to avoid.")
@click.option("--size", "-s", metavar="WxH", help="In pixels; one number is a square.")
@click.option(
    "--steps", type=click.IntRange(1, 1000), help="Denoising steps. Default: the model's, or 20."
)
@click.option(
    "--cfg",
    type=click.FloatRange(0, 100),
    help="Guidance by the prompt. Default: the model's, or 7.",
)
@click.option("--seed", type=click.IntRange(-1, 2**53 - 1), help="Makes images repeatable.")
@click.option("--sampler", default="", help="For example 'Euler a'. Default: the model's.")
@click.option("--scheduler", default="", help="For example karras. Default: the sampler's.")
@click.option(
    "--count", "-c", type=click.IntRange(1, 1000), default=1, help="Images, of seeds in a row."
)
@click.option("--init", type=_FILE, help="Picture to start from.")
@click.option("--strength", type=click.FloatRange(0, 1), help="How much of --init is drawn anew.")
@click.option("--mask", type=_FILE, help="Picture whose white part of --init is drawn anew.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Default: by the file name.")
@click.option("--quality", type=click.IntRange(0, 100), help="Of JPEG and WebP. Default 100.")
@click.option("--show/--no-show", default=True, help="In the terminal, where it can. Default: yes.")
@click.option("--timeout", type=click.FloatRange(min=1), default=3600.0, help="Seconds to wait.")
@client_command
def image(
    session: Session,
    output: str | None,
    force: bool,
    format_: str | None,
    show: bool,
    timeout: float,
    **wishes: Any,
) -> None:
    """Draw a picture from a text, or from another picture.

    Ctrl-C ends the job. With --json every event of the stream is one line of JSON.
    """
    asked = Wishes(**wishes)
    place = destination(output, format_, asked.count, force=force)
    if place.is_stdout:
        if session.output.as_json:
            raise UsageFailure("Standard output can't be both an image and JSON: name a file.")
        if session.output.out.is_terminal:
            raise UsageFailure("An image would garble this terminal: name a file.")
    place.check()
    request = to_request(asked, place.format)
    sources = {"init_images": asked.init, "inpainting.mask": asked.mask}
    run = Run(session, place, {name: path for name, path in sources.items() if path})
    view = _view(session, place, show=show)
    try:
        asyncio.run(run.draw(request, view, timeout))
    except KeyboardInterrupt:
        view.close()
        session.output.note(_stopped(run.written))
        raise SystemExit(INTERRUPTED) from None
    finally:
        view.close()


@dataclass
class Run:
    """One job."""

    session: Session
    place: Destination
    sources: dict[str, Path]
    """Files of the request, by its fields."""
    written: list[Path] = field(default_factory=list[Path])
    has_begun: bool = False

    async def draw(self, request: image_pb2.ImageRequest, view: View, timeout_s: float) -> None:
        """Draws, shows and writes everything. Leaving it ends the job."""
        async with self.session.channel(self.session.image) as channel:
            call = ImageServiceStub(channel).StreamGenerate(request, timeout=timeout_s)
            try:
                await self._read(call, view)
            except aio.AioRpcError as error:
                view.close()
                raise self._failure(error) from error
            finally:
                call.cancel()

    async def _read(
        self, call: "aio.UnaryStreamCall[Any, progress_pb2.ImageEvent]", view: View
    ) -> None:
        finish: progress_pb2.ImageFinish | None = None
        async for event in call:
            self.has_begun = True
            if event.WhichOneof("event") == "image":
                path = self.place.write(event.image.index, event.image.data)
                self.written.append(path)
                view.saved(event.image, path)
                continue
            view.event(event)
            if event.HasField("finish"):
                finish = event.finish
        if finish is None:
            raise Failure("The job was cut short: the stream ended before its last event.")
        if not self.written:
            raise Failure("The job was interrupted before there was an image.")

    def _failure(self, error: aio.AioRpcError) -> Failure:
        peer = self.session.image
        failure = explain(error, peer, self.session.target.key_hint)
        if self.has_begun and not failure.reason and error.code() == grpc.StatusCode.UNAVAILABLE:
            return Failure(
                f"The image service at {peer.address} went away while it drew.",
                hint="Ask again: `penstock serve` starts it anew.",
                code=failure.code,
            )
        if not failure.hint:
            failure.hint = self._hint(failure)
        return failure

    def _hint(self, failure: Failure) -> str:
        if failure.reason in {"MODEL_NOT_FOUND", "MODEL_NOT_READY"}:
            return "`penstock models list --kind image` shows what there is and how it stands."
        for name, path in self.sources.items():
            if failure.field.startswith(name):
                return f"The file is {path}."
        return ""


def _view(session: Session, place: Destination, *, show: bool) -> View:
    if session.output.as_json:
        return JsonView(session.output)
    graphics = graphics_of(terminal_environment(), session.output.out) if show else Graphics.NONE
    return TerminalView(session.output, graphics, names_files=not place.is_stdout)


def _stopped(written: list[Path]) -> str:
    if not written:
        return "Stopped: nothing was written."
    return f"Stopped. Written by then: {', '.join(sorted(map(str, written)))}."
