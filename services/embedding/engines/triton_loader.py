"""Loads encoders on Triton: the model there; its tokenizer from the folder here, which needs no
weights."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from services.embedding.engine import EncoderInfo, EncoderSpec, Tokens
from services.embedding.engines.encoder_facts import EncoderFacts, read_facts
from services.embedding.engines.hf_text import HFTokenizer, load_tokenizer
from services.embedding.engines.triton_encoder import Contract, TritonEncoder, to_tensors
from services.errors import FailedPrecondition
from services.tritonserver.calls import CallOptions, infer
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.hosted import HostedModel
from services.tritonserver.protocol import ModelConfig, on_gpus
from services.tritonserver.tensors import to_request

Progress = Callable[[float], None]

_BATCH_TOKENS = 4096
"""Tokens of a batch for each endpoint."""
_PROBE_S = 60.0
_KNOWN = frozenset({"input_ids", "attention_mask", "token_type_ids", "pooling_mask"})


class TritonLoader:
    """Makes encoders on Triton.

    Args:
        triton: the endpoints.
        batch_tokens: tokens of a batch; 0 takes as many as keep the endpoints busy.
    """

    def __init__(self, triton: Triton, *, batch_tokens: int = 0) -> None:
        self._triton = triton
        self._batch_tokens = batch_tokens or _BATCH_TOKENS * len(triton.settings.endpoints)

    async def load(self, spec: EncoderSpec, progress: Progress) -> TritonEncoder:
        """Reads the folder's text side on another thread, and has Triton load the model."""
        facts, text = await asyncio.to_thread(_read, spec)
        progress(0.1)
        sample = text.encode(["probe"])[0]
        tokens = text.pair(sample, sample) if spec.scores_pairs else text.single(sample)

        async def probe(endpoint: Endpoint, config: ModelConfig) -> None:
            contract = read_contract(config, scores_pairs=spec.scores_pairs)
            await _probe(endpoint, config.name, tokens, contract)

        hosted = await HostedModel.open(self._triton, spec.model, probe=probe)
        try:
            info, contract = self._checked(spec, facts, hosted.config)
        except BaseException:
            await hosted.close()
            raise
        progress(1.0)
        return TritonEncoder(info, text, hosted, contract)

    def _checked(
        self, spec: EncoderSpec, facts: EncoderFacts, config: ModelConfig
    ) -> tuple[EncoderInfo, Contract]:
        """What the model is, if the model in Triton is the one of the folder."""
        contract = read_contract(config, scores_pairs=spec.scores_pairs)
        said = {name: value.string_value for name, value in config.parameters.items()}
        digest = facts.digest() if facts.folder.weights else said.get("digest", "")
        if said.get("digest", digest) != digest:
            raise FailedPrecondition(
                f"The model `{config.name}` in Triton's repository was exported from other weights "
                f"than this folder's: export it again."
            )
        exported = int(said.get("context_length") or facts.context_length)
        if spec.context_length > exported:
            raise FailedPrecondition(
                f"A context of {spec.context_length} tokens was asked for, and the model in Triton "
                f"was exported with {exported}: export it with that context length."
            )
        dtype = said.get("dtype", "auto")
        if spec.dtype not in ("", "auto", dtype):
            raise FailedPrecondition(
                f"The number type {spec.dtype} was asked for, and the model in Triton was exported "
                f"with {dtype}: export it with that, or leave the type out of its deployment."
            )
        if not facts.files.pools_prompt and "pooling_mask" not in contract.inputs:
            raise FailedPrecondition(
                "This model doesn't pool its prompts, and the model in Triton has no input "
                "`pooling_mask`: export it again."
            )
        vectors = not spec.scores_pairs
        files = facts.files
        info = EncoderInfo(
            name="triton",
            device="cuda" if on_gpus(config) else "cpu",
            dtype=dtype,
            build=f"triton_{config.backend or config.platform}_{digest}",
            context_length=min(facts.context_length, exported),
            vocabulary_size=facts.vocabulary_size,
            parameter_count=int(said.get("parameter_count") or 0),
            dimensions=_dimensions(config, contract, facts) if vectors else 0,
            shortening=vectors and files.shortening,
            normalizes=vectors and facts.normalizes,
            scores_pairs=spec.scores_pairs,
            prompts=dict(files.prompts) if vectors else {},
            default_prompt=files.default_prompt if vectors else "",
            batch_tokens=self._batch_tokens,
        )
        return info, contract


def read_contract(config: ModelConfig, *, scores_pairs: bool) -> Contract:
    """What a model in Triton takes and gives.

    Raises:
        FailedPrecondition: it is no encoder, or one of the other kind.
    """
    inputs = frozenset(one.name for one in config.input)
    outputs = {one.name for one in config.output}
    wanted, other = ("score", "embedding") if scores_pairs else ("embedding", "score")
    if wanted not in outputs:
        kind = "EMBEDDING" if scores_pairs else "RERANK"
        raise FailedPrecondition(
            f"The model `{config.name}` in Triton has the output `{other}`: deploy it with kind "
            f"{kind}."
            if other in outputs
            else f"The model `{config.name}` in Triton has no output `{wanted}`: export it with "
            f"`penstock triton export`."
        )
    needed = {one.name for one in config.input if not one.optional}
    if "input_ids" not in inputs or needed - _KNOWN or config.max_batch_size < 1:
        raise FailedPrecondition(
            f"The model `{config.name}` in Triton doesn't take token IDs as an exported encoder "
            f"does: export it with `penstock triton export`."
        )
    said: Mapping[str, Any] = config.parameters
    multiple = said["pad_multiple"].string_value if "pad_multiple" in said else ""
    longest = said["context_length"].string_value if "context_length" in said else ""
    return Contract(
        inputs & _KNOWN, wanted, int(config.max_batch_size), int(multiple or 1), int(longest or 0)
    )


def _dimensions(config: ModelConfig, contract: Contract, facts: EncoderFacts) -> int:
    dims = next(list(one.dims) for one in config.output if one.name == contract.output)
    if dims != [facts.dimensions]:
        raise FailedPrecondition(
            f"The vectors of the model `{config.name}` in Triton are of the shape {dims}, and this "
            f"folder's have {facts.dimensions} numbers: export it again."
        )
    return facts.dimensions


def _read(spec: EncoderSpec) -> tuple[EncoderFacts, HFTokenizer]:
    facts = read_facts(
        spec.source,
        context_length=spec.context_length,
        scores_pairs=spec.scores_pairs,
        needs_weights=False,
    )
    files = facts.files
    return facts, load_tokenizer(
        facts.folder, lowercase=files.lowercase, pools_prefix=files.pools_prompt
    )


async def _probe(endpoint: Endpoint, name: str, tokens: Tokens, contract: Contract) -> None:
    request = to_request(name, to_tensors([tokens], contract), [contract.output])
    deadline = asyncio.get_running_loop().time() + _PROBE_S
    await infer(endpoint, request, CallOptions(deadline=deadline))
