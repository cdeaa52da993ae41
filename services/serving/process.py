"""The process of a service that serves models: it serves, and keeps what it serves as the catalogue
wants."""

import asyncio
import secrets
import socket
from collections.abc import Sequence
from typing import Any, TypeVar

from services.rpc.channels import channel
from services.rpc.health import HealthRegistry
from services.rpc.process import client_tls, server_settings, token_store
from services.rpc.server import Registration, serve
from services.rpc.tokens import Authenticator
from services.serving.catalogue import Attacher, ModelLoader
from services.serving.clients import Describe, ModelServiceCatalogue
from services.serving.control import ControlLoop
from services.serving.deployments import Deployments, DeploymentSettings
from services.serving.models import Served
from services.serving.registry import Registry
from services.settings import ServiceName, Settings

S = TypeVar("S", bound=Served[Any])


async def serve_models(
    name: ServiceName,
    settings: Settings,
    services: Sequence[Registration],
    *,
    registry: Registry[S],
    loader: ModelLoader[S],
    describe: Describe[S],
    attacher: Attacher[S] | None = None,
    authenticator: Authenticator | None = None,
) -> None:
    """Serves until told to stop; then frees every model.

    Args:
        name: the service's.
        settings: everything.
        services: what is served; finds models in `registry`.
        registry: what the control loop keeps.
        loader: loads models.
        describe: writes what a model can do.
        attacher: serves adapters. None: there are none.
        authenticator: of calls. Default: what the settings say.
    """
    health = HealthRegistry()
    deployments = Deployments(
        loader,
        registry,
        lambda model, serving: _tell(health, model, serving),
        DeploymentSettings(drain_grace_s=settings.services.of(name).grace_s),
        attacher=attacher,
    )
    to_catalogue = channel(
        settings.services.model.target,
        tls=client_tls(settings),
        token=settings.auth.service_token,
    )
    loops: list[asyncio.Task[None]] = []

    def begin(address: str) -> None:
        catalogue = ModelServiceCatalogue(
            to_catalogue,
            service=name,
            reporter=f"{name}-{socket.gethostname()}-{secrets.token_hex(4)}",
            address=address,
            describe=describe,
        )
        control = ControlLoop(catalogue, deployments)
        loops.append(asyncio.create_task(control.run(), name="control-loop"))

    try:
        await serve(
            name,
            server_settings(settings, name),
            services,
            authenticator=authenticator or token_store(settings),
            health=health,
            on_ready=begin,
        )
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await to_catalogue.close()


def _tell(health: HealthRegistry, model: str, serving: bool | None) -> None:
    if serving is None:
        health.remove(model)
    else:
        health.set(model, serving)
