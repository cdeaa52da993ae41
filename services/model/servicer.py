"""Translates ModelService's calls for the catalogue, its reports and its watches."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.empty_pb2 import Empty
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1 import model_service_pb2_grpc as service_grpc

from services.errors import DeadlineExceeded, PermissionDenied, Unavailable
from services.model import convert
from services.model.catalog import Catalog
from services.model.names import parse_config_name, parse_model_name
from services.model.records import Model
from services.model.reports import Reports
from services.model.sight import Sight
from services.model.sources import FINE_TUNED, SourcePolicy
from services.model.watches import HEARTBEAT_S, Watches
from services.rpc.access import Role, draining, principal, require, requires

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:  # generic for type checkers only
    Context = grpc.aio.ServicerContext

WAIT_LIMIT_S = 3600.0
"""Longest wait for a deployment of a caller without a deadline."""
_MARGIN_S = 0.05
"""Kept of a deadline, to say in time that it passed."""


class ModelServicer(service_grpc.ModelServiceServicer):
    """Serves `penstock.model.v1.ModelService`."""

    def __init__(
        self,
        catalog: Catalog,
        reports: Reports,
        watches: Watches,
        sources: SourcePolicy,
        *,
        version: str,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._catalog = catalog
        self._reports = reports
        self._watches = watches
        self._sources = sources
        self._version = version
        self._heartbeat_s = heartbeat_s

    @requires(Role.USER)
    async def ListModels(
        self, request: service_pb.ListModelsRequest, context: Context
    ) -> service_pb.ListModelsResponse:
        """Lists models by ID."""
        page = await self._catalog.list(
            kinds=convert.kinds(request.kinds),
            page_size=request.page_size,
            page_token=request.page_token,
            sees=Sight(principal()).sees,
        )
        return service_pb.ListModelsResponse(
            models=[_model(model) for model in page.items], next_page_token=page.next_page_token
        )

    @requires(Role.USER)
    async def GetModel(self, request: service_pb.GetModelRequest, context: Context) -> pb.Model:
        """Gets one model, by ID or alias."""
        return _model(await self._seen(parse_model_name(request.name, "name")))

    @requires(Role.MODEL_MANAGER, Role.SERVICE)
    async def DeployModel(
        self, request: service_pb.DeployModelRequest, context: Context
    ) -> pb.Model:
        """Adds a model, or a revision to one."""
        if request.allow_update or not request.source.startswith(FINE_TUNED):
            # TrainingService deploys what jobs made, and changes nothing that is there.
            require(principal(), Role.MODEL_MANAGER)
        if not principal().may_use(request.model_id, *request.aliases):
            raise PermissionDenied(
                f"This key may not use a model called {request.model_id!r}, so it deploys none.",
                field="model_id",
            )
        source = await self._sources.check(request.source)
        model = await self._catalog.deploy(
            convert.deploy_request(request, source),
            caller=principal().id,
            request_id=request.request_id,
        )
        return _model(await self._settled(model, context) if request.wait else model)

    async def _settled(self, model: Model, context: Context) -> Model:
        # The stubs forget that there may be no deadline.
        remaining = cast("float | None", context.time_remaining())
        timeout_s = WAIT_LIMIT_S if remaining is None else max(remaining - _MARGIN_S, 0.0)
        entry = model.entry
        try:
            return await self._watches.settled(
                entry.id, entry.uid, entry.revision.number, timeout_s
            )
        except TimeoutError:
            raise DeadlineExceeded(
                f"{entry.id!r} is deployed and still loading. GetModel tells how it stands."
            ) from None

    @requires(Role.MODEL_MANAGER)
    async def DeleteModel(self, request: service_pb.DeleteModelRequest, context: Context) -> Empty:
        """Removes a model."""
        name = parse_model_name(request.name, "name")
        await self._check_seen(name)
        await self._catalog.delete(name)
        return Empty()

    @requires(Role.USER)
    async def ListRevisions(
        self, request: service_pb.ListRevisionsRequest, context: Context
    ) -> service_pb.ListRevisionsResponse:
        """Lists the revisions of a model, newest first."""
        name = parse_model_name(request.parent, "parent")
        await self._check_seen(name)
        page = await self._catalog.revisions(
            name,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        whole = _sees_whole()
        return service_pb.ListRevisionsResponse(
            revisions=[convert.revision_proto(revision, whole=whole) for revision in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.MODEL_MANAGER)
    async def GetModelConfig(
        self, request: service_pb.GetModelConfigRequest, context: Context
    ) -> pb.ModelConfig:
        """Gets the settings of a model."""
        model = await self._seen(parse_config_name(request.name, "name"))
        return convert.config_proto(model.entry)

    @requires(Role.ADMIN)
    async def UpdateModelConfig(
        self, request: service_pb.UpdateModelConfigRequest, context: Context
    ) -> pb.ModelConfig:
        """Changes settings of a model."""
        name = parse_config_name(request.config.name, "config.name")
        await self._check_seen(name)
        model = await self._catalog.update_config(
            name,
            convert.config_changes(request),
            etag=request.config.etag,
        )
        return convert.config_proto(model.entry)

    @requires(Role.MODEL_MANAGER)
    async def SetModelAliases(
        self, request: service_pb.SetModelAliasesRequest, context: Context
    ) -> pb.Model:
        """Sets the other IDs of a model."""
        name = parse_model_name(request.name, "name")
        await self._check_seen(name)
        return _model(await self._catalog.set_aliases(name, request.aliases))

    @requires(Role.USER)
    async def GetStatus(
        self, request: service_pb.GetStatusRequest, context: Context
    ) -> service_pb.GetStatusResponse:
        """Tells how the platform stands."""
        return convert.services_proto(await self._reports.services(), self._version)

    @requires(Role.USER)
    async def WatchModels(
        self, request: service_pb.WatchModelsRequest, context: Context
    ) -> AsyncGenerator[service_pb.WatchModelsEvent, None]:
        """Streams the catalogue."""
        whole = _sees_whole()
        kinds = convert.kinds(request.kinds)
        sight = Sight(principal())
        # Who sees a part begins with a snapshot: what was shown to them before is not known.
        after = request.resume_sequence if sight.is_whole else 0
        events = self._watches.watch(kinds, after, end=draining())
        async with aclosing(events):
            async for event in events:
                if (seen := sight.event(event)) is not None:
                    yield convert.event_proto(seen, whole=whole, heartbeat_s=self._heartbeat_s)
        raise Unavailable("The server is shutting down. Watch again.", retry_after_s=1)

    async def _seen(self, name: str) -> Model:
        """Returns a model that the caller named and sees."""
        return Sight(principal()).found(await self._catalog.get(name), name)

    async def _check_seen(self, name: str) -> None:
        """Raises `ModelNotFound` where the caller does not see what they named."""
        if not Sight(principal()).is_whole:
            await self._seen(name)

    @requires(Role.SERVICE)
    async def ReportModelState(
        self, request: service_pb.ReportModelStateRequest, context: Context
    ) -> service_pb.ReportModelStateResponse:
        """Takes what a serving process has."""
        observations = convert.observations(request, self._catalog.clock())
        await self._reports.report(request.reporter, request.service, request.address, observations)
        response = service_pb.ReportModelStateResponse()
        response.next_report.FromTimedelta(self._reports.interval)
        return response


def _model(model: Model) -> pb.Model:
    return convert.model_proto(model, whole=_sees_whole())


def _sees_whole() -> bool:
    """Settings, folders and addresses are for those who manage models, and for services."""
    who = principal()
    return who.holds(Role.MODEL_MANAGER) or who.holds(Role.SERVICE)
