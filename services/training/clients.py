"""What `base_models` promises, done by ModelService.

Calls go out under this service's own token: a job deploys its result long after whoever started it
has gone, and folders are shown to nobody else.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import grpc
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.adapters import holds_adapter
from services.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    InvalidCredentials,
    MissingCredentials,
    ModelNotFound,
    PermissionDenied,
    Unavailable,
)
from services.rpc.call import current
from services.rpc.errors import away, from_peer_error
from services.training.base_models import BaseModel
from services.training.folder import model_link

IDEMPOTENT = (
    "penstock.model.v1.ModelService/GetModel",
    "penstock.model.v1.ModelService/DeployModel",
)
"""Methods that may be repeated, a deployment by its request ID; for
`services.rpc.channels.channel`."""
PATIENCE_S = 30.0
"""How long a result may take to serve before its job ends without that."""
_FIELD = "job.base_model"
_KINDS = {pb.MODEL_KIND_CHAT: "chat", pb.MODEL_KIND_COMPLETION: "completion"}
_CALL_TIMEOUT_S = 15.0
_LOOK_INTERVAL_S = 0.25
_LONGEST_OWNER = 128

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Weights:
    """What a folder holds, as far as this process sees it."""

    there: bool
    adapter: bool


class CatalogueClient:
    """`BaseModels` over ModelService."""

    def __init__(
        self, channel: grpc.aio.Channel, root: Path, *, patience_s: float = PATIENCE_S
    ) -> None:
        """Takes a channel with the service token, and the folder of training jobs."""
        self._stub = ModelServiceStub(channel)
        self._root = root
        self._patience_s = patience_s

    async def find(self, name: str) -> BaseModel:
        """Finds a base by ID or alias."""
        model = await self._model(name)
        call = current()
        who = None if call is None else call.principal
        if who is not None and not who.may_use(_id(model), *model.aliases):
            raise _missing(name)
        kind = _KINDS.get(model.kind)
        if kind is None:
            raise InvalidArgument(
                f"{name[:300]!r} can't be trained: name a model of the kind chat or completion.",
                field=_FIELD,
            )
        folder = await self._folder(model)
        adapter: Path | None = None
        whole = model
        if (await _look(folder)).adapter:
            adapter, whole = folder, await self._model(model.base_model)
            folder = await self._folder(whole)
        return BaseModel(
            id=_id(model),
            kind=kind,
            folder=folder,
            whole_id=_id(whole),
            adapter=adapter,
            context_length=_context_length(model) or _context_length(whole),
        )

    async def deploy(self, model_id: str, base: str, job_id: str, owner: str) -> str:
        """Has a result served under its ID."""
        link = model_link(self._root, model_id)
        weights = await _look(link)
        if not weights.there:
            raise FailedPrecondition("The result of the training is gone: start the job again.")
        request = await self._request(model_id, base, adapter=weights.adapter)
        request.request_id = f"training-{job_id}"
        request.owned_by = owner[:_LONGEST_OWNER]
        try:
            await _answered(self._stub.DeployModel(request, timeout=_CALL_TIMEOUT_S))
        except Conflict:
            # This job has deployed it before. Its base has other settings by now, or somebody has
            # deleted it since: either way it is theirs to say.
            pass
        except AlreadyExists:
            if not await self._is_ours(model_id, link):
                raise
        return await self._until_served(model_id)

    async def _request(
        self, model_id: str, base_id: str, *, adapter: bool
    ) -> service_pb.DeployModelRequest:
        """Returns what is to be deployed: the settings of the base as far as they fit."""
        request = service_pb.DeployModelRequest(model_id=model_id, source=model_id)
        try:
            base = await self._model(base_id)
        except ModelNotFound:
            raise FailedPrecondition(
                f"{base_id!r} was deleted during the training, and what came of it is served with "
                f"the settings of its base: deploy that again, then deploy {model_id!r} with its "
                "own ID as the source."
            ) from None
        request.kind = base.kind
        request.config.CopyFrom(base.config)
        request.config.ClearField("name")
        request.config.ClearField("etag")
        if not adapter:
            request.base_model = _id(base)
            request.load_options.CopyFrom(base.revision.load_options)
            return request
        request.config.ClearField("max_batch_size")
        is_adapter = (await _look(Path(base.revision.source))).adapter
        request.base_model = base.base_model if is_adapter else _id(base)
        return request

    async def _is_ours(self, model_id: str, link: Path) -> bool:
        """Whether what has the ID serves this result."""
        model = await self._model(model_id)
        return _id(model) == model_id and Path(model.revision.source) == await asyncio.to_thread(
            link.resolve
        )

    async def _until_served(self, model_id: str) -> str:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience_s
        while True:
            try:
                model = await self._model(model_id)
            except ModelNotFound:
                return "It was deleted."
            if model.state == pb.Model.STATE_READY:
                return ""
            if model.state == pb.Model.STATE_FAILED or loop.time() >= end:
                return model.state_message
            await asyncio.sleep(_LOOK_INTERVAL_S)

    async def _model(self, name: str) -> pb.Model:
        request = service_pb.GetModelRequest(name=f"models/{name}")
        try:
            model = await _answered(self._stub.GetModel(request, timeout=_CALL_TIMEOUT_S))
        except (ModelNotFound, InvalidArgument):
            raise _missing(name) from None
        if model.state == pb.Model.STATE_STOPPED:
            raise _missing(name)
        return model

    async def _folder(self, model: pb.Model) -> Path:
        if not model.revision.source:
            _unauthorised("ModelService shows it no folders")
        folder = Path(model.revision.source)
        if not (await _look(folder)).there:
            raise FailedPrecondition(
                f"The weights of {_id(model)!r} are not where TrainingService runs: put them on a "
                "volume that it has too, at the same path.",
                field=_FIELD,
            )
        return folder


def _missing(name: str) -> ModelNotFound:
    return ModelNotFound(f"There is no model {name[:300]!r}. ListModels names all.", field=_FIELD)


def _id(model: pb.Model) -> str:
    return model.name.removeprefix("models/")


def _context_length(model: pb.Model) -> int:
    return model.capabilities.context_length or model.revision.load_options.context_length


async def _look(folder: Path) -> _Weights:
    return await asyncio.to_thread(_look_into, folder)


def _look_into(folder: Path) -> _Weights:
    return _Weights(there=folder.is_dir(), adapter=holds_adapter(folder))


async def _answered(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        timed_out = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        told = away("ModelService") if timed_out else from_peer_error("ModelService", error)
    if isinstance(told, (MissingCredentials, InvalidCredentials, PermissionDenied)):
        _unauthorised(told.message)
    raise told


def _unauthorised(why: str) -> NoReturn:
    """It is not the caller who lacks a credential."""
    _logger.error("ModelService doesn't take this service for one: %s", why)
    raise Unavailable(
        "ModelService doesn't take this service's token. Give both the same PENSTOCK_SERVICE_TOKEN."
    )
