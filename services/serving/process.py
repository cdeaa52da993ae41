"""The process of a service that serves models: it serves, and keeps what it serves as the catalogue
wants."""

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

from services.rpc.authentication import Authenticator
from services.rpc.call import current
from services.rpc.channels import channel
from services.rpc.health import HealthRegistry
from services.rpc.process import (
    ProcessLimits,
    authenticator_of,
    client_tls,
    limited,
    server_settings,
)
from services.rpc.server import Registration, serve
from services.rpc.usage import Ledger
from services.serving.catalogue import Attacher, ModelLoader
from services.serving.clients import Describe, ModelServiceCatalogue
from services.serving.control import ControlLoop
from services.serving.deployments import Deployments, DeploymentSettings
from services.serving.models import Served
from services.serving.queues import Counts
from services.serving.registry import Registry
from services.serving.telling import watched
from services.settings import ServiceName, Settings
from services.usage.delivery import Delivery
from services.usage.journal import Journal

_LAST_WORDS_S = 2.0
"""How long a process that stops tells the ledger what it has not told yet."""
_log = logging.getLogger(__name__)

S = TypeVar("S", bound=Served[Any])


async def serve_models(
    name: ServiceName,
    settings: Settings,
    services: Sequence[Registration],
    *,
    registry: Registry[S],
    loader: ModelLoader[S],
    describe: Describe[S],
    count: Callable[[S], Counts],
    attacher: Attacher[S] | None = None,
    authenticator: Authenticator | None = None,
    journal: Journal | None = None,
    limits: ProcessLimits | None = None,
) -> None:
    """Serves until told to stop; then frees every model.

    Args:
        name: the service's.
        settings: everything.
        services: what is served; finds models in `registry`.
        registry: what the control loop keeps.
        loader: loads models.
        describe: writes what a model can do.
        count: counts what waits and runs on a model, for metrics.
        attacher: serves adapters. None: there are none.
        authenticator: of calls. Default: what the settings say.
        journal: of what requests use; is sent to the ledger. None: nothing is metered.
        limits: of callers. Default: what the settings say.
    """
    registry.restrict(_caller_may_use)
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
    delivery = None
    if journal is not None and settings.auth.service_token:
        delivery = Delivery(journal, Ledger(to_catalogue).record)
        loops.append(asyncio.create_task(delivery.run(), name="usage-delivery"))
    elif journal is not None:
        _log.warning(
            "PENSTOCK_SERVICE_TOKEN is not set: what requests use stays in %s", journal.folder
        )

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
        within = nullcontext(limits) if limits is not None else limited(settings)
        with watched(registry, count):
            async with within as limiting:
                await serve(
                    name,
                    server_settings(settings, name),
                    services,
                    authenticator=authenticator or authenticator_of(settings),
                    health=health,
                    on_ready=begin,
                    limits=limiting.calls,
                )
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        if delivery is not None:
            await delivery.finish(_LAST_WORDS_S)
        await to_catalogue.close()


def _caller_may_use(*names: str) -> bool:
    """Tells whether who calls may use a model; what the process does by itself, it may."""
    call = current()
    return call is None or call.principal is None or call.principal.may_use(*names)


def _tell(health: HealthRegistry, model: str, serving: bool | None) -> None:
    if serving is None:
        health.remove(model)
    else:
        health.set(model, serving)
