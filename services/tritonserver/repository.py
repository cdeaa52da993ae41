"""The models of one Triton: loading, unloading, and how they stand."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import grpc
from google.protobuf import json_format

from services.errors import FailedPrecondition, Unavailable
from services.tritonserver.endpoints import Endpoint
from services.tritonserver.failures import first_line, translate
from services.tritonserver.protocol import ModelConfig, pb

_POLL_S = 0.05
_GONE = frozenset({"", "UNAVAILABLE", "UNKNOWN"})
_QUICK_S = 30.0
"""How long calls may take that only read or begin something."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """How a version of a model stands, as Triton's index says."""

    state: str
    """`READY`, `LOADING`, `UNLOADING`, `UNAVAILABLE`; empty when it was never loaded."""
    reason: str
    """Why it is not ready, in Triton's words."""


async def state(endpoint: Endpoint, name: str) -> ModelState | None:
    """How a model stands; None when the repository has none of that name. Raises `DomainError`."""
    try:
        answer = await endpoint.stub.RepositoryIndex(
            pb.RepositoryIndexRequest(), timeout=_QUICK_S, metadata=endpoint.metadata
        )
    except grpc.RpcError as error:
        raise translate(error, name) from error
    found = [ModelState(one.state, one.reason) for one in answer.models if one.name == name]
    return next((one for one in found if one.state == "READY"), found[-1] if found else None)


async def configuration(endpoint: Endpoint, name: str) -> ModelConfig:
    """The configuration that a loaded model runs with. Raises `DomainError`."""
    try:
        answer = await endpoint.stub.ModelConfig(
            pb.ModelConfigRequest(name=name), timeout=_QUICK_S, metadata=endpoint.metadata
        )
    except grpc.RpcError as error:
        raise translate(error, name) from error
    return answer.config


async def load(endpoint: Endpoint, name: str, *, changes: str = "") -> None:
    """Loads a model, or loads it anew where its files or configuration changed.

    Args:
        endpoint: where.
        name: its name in the repository.
        changes: JSON object that is laid over its own configuration.

    Raises:
        Unavailable: it can't be loaded now; the message has Triton's reason.
    """
    await _load(endpoint, name)
    if changes:
        merged = merge(await configuration(endpoint, name), changes)
        if merged:
            await _load(endpoint, name, merged)


async def unload(endpoint: Endpoint, name: str, *, wait: bool = True) -> None:
    """Unloads a model; returns when it is gone, unless told not to wait. What runs is finished
    first; what a dead python model never will, Triton gives up after a while.

    Raises:
        DomainError: Triton can't be reached, or does not do it in time.
    """
    try:
        await endpoint.stub.RepositoryModelUnload(
            pb.RepositoryModelUnloadRequest(model_name=name),
            timeout=_QUICK_S,
            metadata=endpoint.metadata,
        )
    except grpc.RpcError as error:
        raise translate(error, name) from error
    if not wait:
        return
    try:
        async with asyncio.timeout(endpoint.settings.load_timeout_s):
            while not await _gone(endpoint, name):  # noqa: ASYNC110  (Triton tells nobody)
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise Unavailable(f"Triton's model `{name}` is not unloaded in time.") from None


def merge(config: ModelConfig, changes: str) -> str:
    """A configuration with changes laid over it, as JSON; empty when they change nothing.

    Tables are merged; lists and values are replaced.

    Raises:
        FailedPrecondition: the changes are no JSON object.
    """
    try:
        given = json.loads(changes)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise FailedPrecondition("The `config` of a model in [triton.models] is no JSON object.")
    before: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    after = _laid_over(before, cast("dict[str, Any]", given))
    return "" if after == before else json.dumps(after)


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        under = result.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            value = _laid_over(cast("dict[str, Any]", under), cast("dict[str, Any]", value))
        result[name] = value
    return result


async def _gone(endpoint: Endpoint, name: str) -> bool:
    now = await state(endpoint, name)
    return now is None or now.state in _GONE


async def _load(endpoint: Endpoint, name: str, config: str = "") -> None:
    """Has it loaded, with the JSON of a configuration in place of the repository's."""
    request = pb.RepositoryModelLoadRequest(model_name=name)
    if config:
        request.parameters["config"].string_param = config
    timeout = endpoint.settings.load_timeout_s
    try:
        await endpoint.stub.RepositoryModelLoad(
            request, timeout=timeout, metadata=endpoint.metadata
        )
    except grpc.RpcError as error:
        raise await _not_loaded(endpoint, name, error) from error


async def _not_loaded(endpoint: Endpoint, name: str, error: grpc.RpcError) -> Unavailable:
    code = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.aio.AioRpcError) else "") or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"Triton at {endpoint.address} took too long to load `{name}`.")
    if code is grpc.StatusCode.UNAVAILABLE and "load failed" not in details:
        return Unavailable(f"Triton at {endpoint.address} can't be reached.")
    if "failed to poll" in details:
        return Unavailable(
            f"Triton at {endpoint.address} has no model `{name}` in its repository: put it there."
        )
    reason = details
    try:
        found = await state(endpoint, name)
        reason = (found.reason if found is not None else "") or details
    except Exception:  # the first failure is what counts
        reason = details
    return Unavailable(f"Triton at {endpoint.address} can't load `{name}`: {first_line(reason)}.")
