"""Draws pictures in Triton's python backend. `penstock triton export` copies this file into a model
repository as `1/model.py`, and the code that it imports into `1/lib`.

It takes orders and answers with events; the README beside it says what they hold.
"""

import asyncio
import json
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "lib"))

import numpy as np
import triton_python_backend_utils  # pyright: ignore[reportMissingImports]  (Triton brings it)

from services.errors import DomainError
from services.image.engine import ImageModelSpec
from services.image.engines.diffusers_settings import DiffusersSettings
from services.tritonserver.instance import Instance, instance_of

pb_utils: Any = triton_python_backend_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the pipeline; Triton calls this once."""
        try:
            self._load(instance_of(args, Path(__file__).parent))
        except DomainError as error:
            raise pb_utils.TritonModelException(error.message) from error

    def _load(self, own: Instance) -> None:
        # Triton imports this file once more only to read its configuration: that shall be quick.
        from services.image.engines.diffusers_loader import DiffusersLoader
        from services.image.engines.triton_host import Host

        given = own.given
        settings = DiffusersSettings(
            device=own.device,
            dtype=given["dtype"],
            batching=given["batching"],
            max_batch=int(given["max_batch"]),
            compile=given["compile"] == "true",
            torch_threads=int(given["threads"]),
        )
        spec = ImageModelSpec(own.name, own.version, own.weights, given["dtype"])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def load() -> Host:
            model = await DiffusersLoader(settings).load(spec, lambda _share: None)
            return await Host.open(model, most_waiting=int(given["max_waiting"]))

        self._host = asyncio.run_coroutine_threadsafe(load(), self._loop).result()

    def execute(self, requests: list[Any]) -> None:
        """Takes requests; they are answered as they are drawn."""
        for request in requests:
            answers = _Answers(request.get_response_sender())
            order = pb_utils.get_input_tensor_by_name(request, "order").as_numpy().flatten()
            pictures = pb_utils.get_input_tensor_by_name(request, "pictures")
            latents = pb_utils.get_input_tensor_by_name(request, "latents")
            work = self._answer(
                [bytes(one) for one in order],
                [] if pictures is None else [bytes(one) for one in pictures.as_numpy().flatten()],
                None if latents is None else latents.as_numpy(),
                answers,
            )
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def finalize(self) -> None:
        """Frees the device; Triton calls this at the end."""
        asyncio.run_coroutine_threadsafe(self._host.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _answer(
        self, order: list[bytes], pictures: list[bytes], latents: Any, answers: "_Answers"
    ) -> None:
        try:
            text = order[0].decode("utf-8", "replace") if len(order) == 1 else ""
            await self._host.answer(text, pictures, latents, answers)
        except Exception as error:  # what is unforeseen ends one request, not the model
            answers.fail(error)
        finally:
            answers.end()


class _Answers:
    """Sends the answers to one request."""

    def __init__(self, sender: Any) -> None:
        self._sender = sender

    def send(self, event: dict[str, Any], *, latents: Any = None, pictures: Any = None) -> None:
        """Sends one answer."""
        text = np.array([json.dumps(event).encode()], dtype=object)
        tensors = [pb_utils.Tensor("event", text)]
        if latents is not None:
            tensors.append(pb_utils.Tensor("latents", np.ascontiguousarray(latents)))
        if pictures is not None:
            tensors.append(pb_utils.Tensor("pictures", np.ascontiguousarray(pictures)))
        if not self.gone():
            self._sender.send(pb_utils.InferenceResponse(tensors))

    def gone(self) -> bool:
        """Whether the request was cancelled."""
        return bool(self._sender.is_cancelled())

    def fail(self, error: Exception) -> None:
        """Answers with an error of Triton's."""
        if not self.gone():
            told = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            self._sender.send(pb_utils.InferenceResponse([], told))

    def end(self) -> None:
        """Ends the answers."""
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
