"""Loads text models on Triton: the model there, its tokenizer and templates here."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from transformers import GenerationConfig

from services.errors import DomainError, FailedPrecondition
from services.inference.engine import EngineInfo, ModelSpec, RemoteModel
from services.inference.engines.admission import Limits
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.architecture import context_length, end_tokens
from services.inference.engines.hf_text import HFText
from services.inference.engines.triton_contract import Contract, Vocabulary, parameter
from services.inference.engines.triton_engine import ONE_TOKEN, PROBE_S, TritonEngine
from services.inference.engines.triton_settings import TritonTextSettings
from services.inference.engines.triton_trtllm import TensorrtLlmContract, inner_names
from services.inference.engines.triton_vllm import VllmContract
from services.tritonserver import repository
from services.tritonserver.calls import CallOptions, stream
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.failures import words
from services.tritonserver.hosted import HostedModel
from services.tritonserver.protocol import ModelConfig, on_gpus
from services.tritonserver.tensors import from_response, to_request
from services.weights.configuration import fast_tokenizer, load_config, load_tokenizer
from services.weights.folder import ModelFolder

Progress = Callable[[float], None]

_LORA, _NO_LORA = "LoRA", "not enabled"
"""What the vLLM backend says of an adapter that it has not, and beside that where it has none."""
_NOBODY = "penstock-asks-whether-there-are-adapters"


@dataclass(frozen=True, slots=True)
class _TextSide:
    """What the model's folder says."""

    text: HFText
    vocabulary: Vocabulary
    special: frozenset[int]
    context: int
    digest: str
    trial: list[int]
    """A short prompt."""


class TritonTextLoader:
    """Makes engines on Triton. The folder of a model needs no weights."""

    def __init__(self, triton: Triton, settings: TritonTextSettings) -> None:
        self._triton = triton
        self._settings = settings

    async def load(self, spec: ModelSpec, progress: Progress) -> RemoteModel:
        """Reads the folder's text side, and has Triton load the model."""
        side = await asyncio.to_thread(self._read, spec)
        progress(0.1)

        found: dict[str, Contract] = {}  # by endpoint: probes go on for as long as it serves

        async def probe(endpoint: Endpoint, config: ModelConfig) -> None:
            contract = await _contract(endpoint, config, side)
            await _try(endpoint, contract, side)
            found[endpoint.address] = contract

        hosted = await HostedModel.open(self._triton, spec.model, probe=probe)
        try:
            progress(0.9)
            contract = next(iter(found.values()))
            if isinstance(contract, VllmContract):
                contract.has_adapters(await _has_adapters(hosted, contract, side))
            engine = self._engine(spec, side, hosted, contract)
        except BaseException:
            await hosted.close()
            raise
        progress(1.0)
        return RemoteModel(engine, side.text, engine.lost)

    def _engine(
        self, spec: ModelSpec, side: _TextSide, hosted: HostedModel, contract: Contract
    ) -> TritonEngine:
        settings, config = self._settings, hosted.config
        slots = spec.max_batch_size or settings.max_batch_size
        exported = int(parameter(config, "context_length") or side.context)
        if spec.context_length > exported:
            raise FailedPrecondition(
                f"A context of {spec.context_length} tokens was asked for, and the model in Triton "
                f"was exported with {exported}: export it with that context length."
            )
        limits = Limits(
            slots=slots * len(self._triton.endpoints),
            queue_limit=settings.queue_limit,
            context_length=min(side.context, exported),
            vocabulary_size=side.vocabulary.size,
        )
        info = EngineInfo(
            name="triton",
            device="cuda" if on_gpus(config) else "cpu",
            dtype=parameter(config, "dtype") or "auto",
            context_length=limits.context_length,
            slots=limits.slots,
            vocabulary_size=side.vocabulary.size,
            parameter_count=int(parameter(config, "parameter_count") or 0),
            capabilities=contract.capabilities,
            build=f"triton_{config.backend or config.platform}_{side.digest}",
        )
        queue = AdmissionQueue(limits, eos=side.vocabulary.eos, now=time.monotonic())
        return TritonEngine(info, queue, hosted, contract, contract.prompt(side.trial))

    def _read(self, spec: ModelSpec) -> _TextSide:
        folder = ModelFolder(spec.source, takes_adapters=True, needs_weights=False)
        config = load_config(folder)
        tokenizer = load_tokenizer(folder)
        generation: GenerationConfig | None = None
        if (folder.path / "generation_config.json").is_file():
            generation = cast("Any", GenerationConfig).from_pretrained(
                folder.path, local_files_only=True
            )
        size = int(cast("Any", config).vocab_size)
        text = HFText(tokenizer, vocabulary_size=size)
        eos = end_tokens(config, generation, cast("int | None", tokenizer.eos_token_id))
        return _TextSide(
            text,
            Vocabulary(size, eos),
            frozenset(fast_tokenizer(tokenizer).get_added_tokens_decoder()),
            context_length(config, wanted=spec.context_length, most=self._settings.max_context),
            folder.digest(),
            text.encode("Hello", add_special=True),
        )


async def _contract(endpoint: Endpoint, config: ModelConfig, side: _TextSide) -> Contract:
    """How a model in Triton is spoken to: as its inputs say, or those of the model behind it.

    Raises:
        FailedPrecondition: it generates no text in a way that is known here.
    """
    if VllmContract.spoken_by(config):
        return VllmContract(config, side.vocabulary, side.text, side.special)
    inner = [await repository.configuration(endpoint, name) for name in inner_names(config)]
    for one in (config, *inner):
        if TensorrtLlmContract.spoken_by(one):
            return TensorrtLlmContract(one, side.vocabulary)
    raise FailedPrecondition(
        f"Triton's model `{config.name}` has no inputs as those of the vLLM backend or of "
        f"TensorRT-LLM with decoupled answers: export it with `penstock triton export`, or name "
        f"another one by [triton.models] name."
    )


async def _try(endpoint: Endpoint, contract: Contract, side: _TextSide) -> None:
    """Has a model answer one token on one endpoint."""
    inputs = [*contract.prompt(side.trial), *contract.sampling(ONE_TOKEN, 1, "")]
    options = CallOptions(deadline=asyncio.get_running_loop().time() + PROBE_S)
    async with aclosing(stream(endpoint, to_request(contract.model, inputs), options)) as answers:
        steps = [contract.read(from_response(answer), ONE_TOKEN) async for answer in answers]
    if not steps:
        raise FailedPrecondition(f"Triton's model `{contract.model}` answered nothing.")


async def _has_adapters(hosted: HostedModel, contract: Contract, side: _TextSide) -> bool:
    """Whether a model has LoRA adapters: the backend's own words tell, when one is asked for that
    nobody has."""
    inputs = [*contract.prompt(side.trial), *contract.sampling(ONE_TOKEN, 1, _NOBODY)]
    options = CallOptions(deadline=asyncio.get_running_loop().time() + PROBE_S)
    try:
        async with aclosing(hosted.stream(inputs, options=options)) as answers:
            async for _ in answers:
                pass
    except DomainError as error:
        told = words(error)
        return _LORA in told and _NO_LORA not in told
    return False
