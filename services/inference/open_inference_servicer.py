"""The Open Inference Protocol over gRPC, on the same registry as InferenceService."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

from tritonclient.grpc import service_pb2_grpc

from services.errors import DomainError, InvalidArgument, Unsupported
from services.inference import open_inference as oip
from services.inference import tensor_inference
from services.inference.callers import calling
from services.inference.open_inference import pb
from services.inference.prompts import off_loop
from services.inference.registry import AnyServed, Registry, ServedTensors
from services.metering import Meter, Unmetered
from services.rpc.access import Role, draining, open_method, requires

Context = Any

_untyped: Any = service_pb2_grpc
add_open_inference: Callable[[Any, Any], None] = _untyped.add_GRPCInferenceServiceServicer_to_server
"""Adds the servicer to a server."""

_DEPLOYS = (
    "Models are deployed and deleted with penstock.model.v1.ModelService (DeployModel, "
    "DeleteModel) or `penstock models`."
)
_NO_SHARED_MEMORY = (
    "There is no shared memory here: send tensors in raw_input_contents, and take them from "
    "raw_output_contents."
)
_METRICS = "Call penstock.inference.v1.InferenceService/GetRuntimeInfo for a model's counts."
_OPERATORS = "Logs and traces are set up where the server runs, not by calls."
_ELSEWHERE = {
    "ModelStreamInfer": "Tensor models answer each request once: call ModelInfer.",
    "ModelStatistics": _METRICS,
    "RepositoryModelLoad": _DEPLOYS,
    "RepositoryModelUnload": _DEPLOYS,
    **{
        f"{kind}SharedMemory{what}": _NO_SHARED_MEMORY
        for kind in ("System", "Cuda")
        for what in ("Status", "Register", "Unregister")
    },
    "TraceSetting": _OPERATORS,
    "LogSettings": _OPERATORS,
}
"""What Triton adds to the protocol and is not served, and what does instead."""


class OpenInferenceServicer:
    """Answers clients of KServe and Triton."""

    def __init__(self, registry: Registry, meter: Meter | None = None) -> None:
        """Takes what keeps account of inferences (None: nothing does)."""
        self._registry = registry
        self._meter = meter or Unmetered()

    @open_method
    async def ServerLive(self, request: Any, context: Context) -> Any:
        """Tells that the process answers."""
        return pb.ServerLiveResponse(live=True)

    @open_method
    async def ServerReady(self, request: Any, context: Context) -> Any:
        """Tells whether it takes requests, which it does until it drains."""
        return pb.ServerReadyResponse(ready=not draining().is_set())

    @requires(Role.USER)
    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        """Tells what serves."""
        return pb.ServerMetadataResponse(
            name="penstock", version=_version(), extensions=["model_configuration"]
        )

    @requires(Role.USER)
    async def ModelReady(self, request: Any, context: Context) -> Any:
        """Tells whether a model of this service answers, whatever it does."""
        try:
            served = self._registry.find(request.name)
            oip.check_version(served, request.version, "version")
        except DomainError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    @requires(Role.USER)
    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        """Tells what a tensor model takes and gives."""
        return oip.from_metadata(self._tensors(request.name, request.version))

    @requires(Role.USER)
    async def ModelConfig(self, request: Any, context: Context) -> Any:
        """Tells the same in Triton's words."""
        return oip.from_config(self._tensors(request.name, request.version))

    @requires(Role.USER)
    async def ModelInfer(self, request: Any, context: Context) -> Any:
        """Runs a tensor model once."""
        with oip.spelled("model_name", raw=bool(request.raw_input_contents)):
            served = self._registry.find(request.model_name)
            tensor_model = _of_tensors(served)
            oip.check_version(served, request.model_version, "model_version")
            timeout_s = oip.timeout_of(request)
            names = oip.to_output_names(request, tensor_model.loaded.info.outputs)
            caller = await calling(request, context, timeout_s)
            tensors = await off_loop(request.ByteSize(), lambda: oip.to_tensors(request))
            inferred = await tensor_inference.infer(tensor_model, tensors, caller, self._meter)
        return oip.from_inferred(tensor_model, request.id, names, inferred)

    @requires(Role.USER)
    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        """Lists the models of this service that the caller may use."""
        index = pb.RepositoryIndexResponse()
        if request.repository_name:
            return index
        for id, served in sorted(self._registry.visible().items()):
            index.models.add(name=id, version=oip.version_of(served), state="READY")
        if not request.ready:
            for known in self._registry.missing():
                state = "UNAVAILABLE" if known.failed else "LOADING"
                index.models.add(name=known.id, state=state)
        return index

    def _tensors(self, name: str, version: str) -> ServedTensors:
        with oip.spelled("name"):
            served = self._registry.find(name)
            oip.check_version(served, version, "version")
            return _of_tensors(served)


def _of_tensors(served: AnyServed) -> ServedTensors:
    if isinstance(served, ServedTensors):
        return served
    raise InvalidArgument(
        f"The model `{served.id}` is of the type {served.kind.name.lower()}, and this protocol "
        f"reaches tensor models. Call penstock.inference.v1.InferenceService, or a REST dialect.",
        field="model",
    )


def _refusing(why: str) -> Callable[[Any, Any, Context], Awaitable[Any]]:
    async def refuse(self: Any, request: Any, context: Context) -> Any:
        raise Unsupported(why)

    return requires(Role.USER)(refuse)


for _name, _why in _ELSEWHERE.items():
    setattr(OpenInferenceServicer, _name, _refusing(_why))


def _version() -> str:
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return ""
