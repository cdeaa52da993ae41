"""Loads image models on Triton. What there is to know of a model, the one there tells."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from services.errors import FailedPrecondition, Unavailable
from services.image.engine import ImageModelSpec
from services.image.engines.triton_engine import TritonImageModel, ask, read_event
from services.image.engines.triton_wire import ORDER, Op, read_description
from services.tritonserver.calls import CallOptions, stream
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.hosted import HostedModel
from services.tritonserver.protocol import ModelConfig
from services.tritonserver.tensors import bytes_tensor, from_response, to_request

Progress = Callable[[float], None]

_PROBE_S = 300.0
_NAMES = frozenset({"order", "pictures", "latents"})


class TritonLoader:
    """Makes image models on Triton."""

    def __init__(self, triton: Triton) -> None:
        self._triton = triton

    async def load(self, spec: ImageModelSpec, progress: Progress) -> TritonImageModel:
        """Has Triton load it, and asks what it is; `spec.source` is not looked at."""
        hosted = await HostedModel.open(self._triton, spec.model, probe=probe)
        try:
            progress(0.9)
            event, _ = await ask(hosted, {"op": Op.DESCRIBE.value})
            try:
                description = read_description(event)
            except (KeyError, TypeError, ValueError):
                raise FailedPrecondition(
                    f"The model `{hosted.name}` in Triton is of another version of this software: "
                    f"export it again."
                ) from None
            if spec.dtype not in ("", "auto", description.info.dtype):
                raise FailedPrecondition(
                    f"The number type {spec.dtype} was asked for, and the model in Triton runs in "
                    f"{description.info.dtype}: export it with that, or leave the type out of its "
                    f"deployment."
                )
        except BaseException:
            await hosted.close()
            raise
        progress(1.0)
        return TritonImageModel(hosted, description, spec.model)


async def probe(endpoint: Endpoint, config: ModelConfig) -> None:
    """Has a model draw one step.

    Raises:
        FailedPrecondition: it draws nothing.
        DomainError: it can't.
    """
    given: Any = config.input
    names = frozenset(str(one.name) for one in given)
    if names != _NAMES or not config.model_transaction_policy.decoupled:
        raise FailedPrecondition(
            f"The model `{config.name}` in Triton is no image model: export it with `penstock "
            f"triton export`."
        )
    order = json.dumps({"op": Op.PROBE.value})
    request = to_request(config.name, [bytes_tensor(ORDER, [order])])
    deadline = asyncio.get_running_loop().time() + _PROBE_S
    async with aclosing(stream(endpoint, request, CallOptions(deadline=deadline))) as answers:
        found = [from_response(answer) async for answer in answers]
    if len(found) != 1:
        raise Unavailable(f"The model `{config.name}` in Triton gave no answer.")
    read_event(found[0])
