"""Makes vectors, or scores pairs, in Triton's python backend. `penstock triton export` copies this
file into a model repository as `1/model.py`, and the code that it imports into `1/lib`.

Requests hold token IDs, a row for each text; the rows of all requests that Triton gives at a time
are computed together, without padding where the architecture allows it.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "lib"))

import numpy as np
import triton_python_backend_utils  # pyright: ignore[reportMissingImports]  (Triton brings it)

from services.embedding.engine import Encoder, EncoderSpec, Tokens
from services.embedding.engines.inputs import check_inputs
from services.embedding.engines.torch_settings import TorchSettings
from services.errors import DomainError, InvalidArgument, Unavailable
from services.tritonserver.instance import Instance, instance_of

pb_utils: Any = triton_python_backend_utils


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the encoder; Triton calls this once."""
        try:
            self._load(instance_of(args, Path(__file__).parent))
        except DomainError as error:
            raise pb_utils.TritonModelException(error.message) from error

    def _load(self, own: Instance) -> None:
        # Triton imports this file once more only to read its configuration: that shall be quick.
        from services.embedding.engines.torch_loader import TorchLoader

        given = own.given
        settings = TorchSettings(
            device=own.device,
            dtype=given["dtype"],
            encoder=given["encoder"],
            torch_threads=int(given["threads"]),
            batch_tokens=int(given["batch_tokens"]),
        )
        spec = EncoderSpec(
            own.name,
            own.version,
            own.weights,
            context_length=int(given["context_length"]),
            dtype=given["dtype"],
            scores_pairs=given["scores_pairs"] == "true",
        )
        self._loop = asyncio.new_event_loop()
        loading = TorchLoader(settings).load(spec, lambda _share: None)
        self._encoder: Encoder = self._loop.run_until_complete(loading)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests; Triton gives as many as its dynamic batching has put together."""
        read = [self._read(request) for request in requests]
        batch = [tokens for one, _ in read for tokens in one]
        try:
            results = iter(self._computed(batch))
        except DomainError as error:
            codes = pb_utils.TritonError
            code = codes.UNAVAILABLE if isinstance(error, Unavailable) else codes.INTERNAL
            failure = codes(error.message, code)
            return [pb_utils.InferenceResponse([], refused or failure) for _, refused in read]
        return [
            pb_utils.InferenceResponse([], refused)
            if refused
            else self._answer([next(results) for _ in one])
            for one, refused in read
        ]

    def finalize(self) -> None:
        """Frees the device; Triton calls this at the end."""
        self._loop.run_until_complete(self._encoder.close())
        self._loop.close()

    def _read(self, request: Any) -> tuple[list[Tokens], Any]:
        """The inputs of a request; or none, and Triton's error that refuses them."""
        codes = pb_utils.TritonError
        if request.is_cancelled():
            return [], codes("The request was cancelled.", codes.CANCELLED)
        try:
            inputs = _rows(
                _array(request, "input_ids"),
                _array(request, "attention_mask"),
                _array(request, "token_type_ids"),
                _array(request, "pooling_mask"),
                pairs=self._encoder.info.scores_pairs,
            )
            check_inputs(self._encoder.info, inputs)
        except InvalidArgument as error:
            return [], codes(f"{error.field}: {error.message}", codes.INVALID_ARG)
        return inputs, None

    def _computed(self, batch: list[Tokens]) -> list[Any]:
        if self._encoder.info.scores_pairs:
            scores = self._loop.run_until_complete(self._encoder.score(batch))
            return [np.array([score], np.float32) for score in scores]
        vectors = self._loop.run_until_complete(self._encoder.encode(batch, normalize=False))
        return [np.frombuffer(vector, np.float32) for vector in vectors]

    def _answer(self, results: list[Any]) -> Any:
        name = "score" if self._encoder.info.scores_pairs else "embedding"
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.stack(results))])


def _array(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _rows(ids: Any, mask: Any, types: Any, pooled: Any, *, pairs: bool) -> list[Tokens]:
    """The inputs of a request, without what pads them."""
    for name, one in (
        ("attention_mask", mask),
        ("token_type_ids", types),
        ("pooling_mask", pooled),
    ):
        if one is not None and one.shape != ids.shape:
            raise InvalidArgument(
                f"It has to be of the shape of input_ids, {ids.shape}.", field=name
            )
    if not len(ids):
        raise InvalidArgument("There has to be at least one input.", field="input_ids")
    found: list[Tokens] = []
    for row in range(len(ids)):
        present = np.ones(ids.shape[1], bool) if mask is None else mask[row] != 0
        second, ignored = None, 0
        if pairs and types is not None:
            second = int(np.argmax(types[row][present] != 0)) or None
        if pooled is not None:
            ignored = int((pooled[row][present] == 0).sum())
        found.append(Tokens(ids[row][present].tolist(), second_from=second, ignored=ignored))
    return found
