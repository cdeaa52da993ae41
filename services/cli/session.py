"""What every client command has: the platform it talks to, and where its output goes."""

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from grpc import aio
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.cli.dial import dial
from services.cli.failures import Failure, Peer, explain
from services.cli.output import Output
from services.cli.target import Choices, Target, find_target

P = ParamSpec("P")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Session:
    """One run of a client command."""

    def __init__(self, target: Target, output: Output) -> None:
        self.target = target
        self.output = output
        self.model = Peer("model", target.model_address, "--model-address")
        self.inference = Peer("inference", target.inference_address, "--inference-address")
        self.retrieval = Peer("retrieval", target.retrieval_address, "--retrieval-address")
        self.image = Peer("image", target.image_address, "--image-address")
        self.training = Peer("training", target.training_address, "--training-address")

    def channel(self, peer: Peer) -> aio.Channel:
        """Opens a channel that carries the key. Needs a running event loop."""
        return dial(peer.address, self.target.settings, self.target.api_key)

    @contextmanager
    def explained(self, peer: Peer) -> Generator[None]:
        """Turns errors of calls within the block into Failures."""
        try:
            yield
        except aio.AioRpcError as error:
            raise explain(error, peer, self.target.key_hint) from error

    @asynccontextmanager
    async def models(self) -> AsyncGenerator[ModelServiceStub, None]:
        """Opens the catalogue's service; errors within the block become Failures."""
        with self.explained(self.model):
            async with self.channel(self.model) as opened:
                yield ModelServiceStub(opened)

    @asynccontextmanager
    async def documents(self) -> AsyncGenerator[RetrievalServiceStub, None]:
        """Opens the service that keeps documents; errors within the block become Failures."""
        with self.explained(self.retrieval):
            async with self.channel(self.retrieval) as opened:
                yield RetrievalServiceStub(opened)

    @asynccontextmanager
    async def files(self) -> AsyncGenerator[TrainingServiceStub, None]:
        """Opens the service that keeps files and trains; errors within the block become
        Failures."""
        with self.explained(self.training):
            async with self.channel(self.training) as opened:
                yield TrainingServiceStub(opened)


def common_options(function: Decorated) -> Decorated:
    """Adds the options of every command."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON instead of text, for scripts."),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Configuration file. Default: $PENSTOCK_CONFIG, else ./penstock.toml.",
        ),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Data directory. Default: $PENSTOCK_DATA_DIR, else ./.penstock.",
        ),
    ):
        function = option(function)
    return function


def client_command(
    function: Callable[Concatenate[Session, P], None],
) -> Callable[..., None]:
    """Makes a command of a function whose first argument is the session."""

    @click.option(
        "--api-key",
        envvar="PENSTOCK_API_KEY",
        help="Default: $PENSTOCK_API_KEY, else the data directory's admin key.",
    )
    @click.option("--training-address", metavar="HOST:PORT", help="Of the training service.")
    @click.option("--image-address", metavar="HOST:PORT", help="Of the image service.")
    @click.option("--retrieval-address", metavar="HOST:PORT", help="Of the retrieval service.")
    @click.option("--inference-address", metavar="HOST:PORT", help="Of the inference service.")
    @click.option("--model-address", metavar="HOST:PORT", help="Of the model service.")
    @common_options
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json: bool = kwargs.pop("as_json")
        choices = Choices(
            **{
                name: kwargs.pop(name)
                for name in (
                    *("config", "data_dir", "api_key"),
                    *("model_address", "inference_address"),
                    *("retrieval_address", "image_address", "training_address"),
                )
            }
        )
        with failures_as(as_json):
            session = Session(find_target(choices), Output(as_json))
            function(session, *args, **kwargs)

    return run


@contextmanager
def failures_as(as_json: bool) -> Generator[None]:
    """Makes Failures of the block show themselves as JSON, or as text."""
    try:
        yield
    except Failure as failure:
        failure.as_json = as_json
        raise
