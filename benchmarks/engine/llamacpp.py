"""llama.cpp by its C API: a loop that decodes all callers in one batch, as its server does."""

import asyncio
import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from safetensors import safe_open

from benchmarks.engine.jobs import VOCABULARY, Job, Times
from benchmarks.engine.number_type import NAME
from benchmarks.engine.slots import Entry, serve

_CALLERS = 32
_CONTEXT = _CALLERS * 1024  # a prompt of 1,000 tokens, and a few more
_BATCH = 2048
_TYPES = {
    "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
}
_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


class LlamaCpp:
    """The same weights in GGUF."""

    def __init__(self, folder: Path) -> None:
        path = folder / "model.gguf"
        if not path.exists():
            convert(folder, path)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = _CONTEXT
        parameters.n_batch = parameters.n_ubatch = _BATCH
        parameters.n_seq_max = _CALLERS
        parameters.n_threads = parameters.n_threads_batch = len(os.sched_getaffinity(0))
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs as they come."""
        return await asyncio.to_thread(self._run, jobs)

    def _run(self, jobs: Sequence[Job]) -> Times:
        memory = llama_cpp.llama_get_memory(self._context)
        llama_cpp.llama_memory_clear(memory, True)

        def drop(sequence: int) -> None:
            llama_cpp.llama_memory_seq_rm(memory, sequence, -1, -1)

        return serve(jobs, self._decode, drop, slots=_CALLERS, batch=_BATCH)

    def _decode(self, entries: Sequence[Entry]) -> dict[int, int]:
        """Decodes (token, position, sequence, whether logits are wanted); returns best tokens."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for row, (token, place, sequence, wanted) in enumerate(entries):
            batch.token[row] = token
            batch.pos[row] = place
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = sequence
            batch.logits[row] = wanted
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        chosen: dict[int, int] = {}
        for row, (_, _, sequence, wanted) in enumerate(entries):
            if wanted:
                logits = llama_cpp.llama_get_logits_ith(self._context, row)
                view = np.ctypeslib.as_array(
                    ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (VOCABULARY,)
                )
                chosen[sequence] = int(view.argmax())
        return chosen


def convert(folder: Path, path: Path) -> None:
    """Writes the Llama in `folder` as GGUF without a tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(576)
    writer.add_block_count(30)
    writer.add_feed_forward_length(1536)
    writer.add_head_count(9)
    writer.add_head_count_kv(3)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("no_vocab")
    kind, file_kind = _TYPES[NAME]
    writer.add_file_type(file_kind)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a mapping
            tensor = weights.get_tensor(name).float().numpy()
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                tensor = _interleaved(tensor)
            if tensor.ndim == 1:
                writer.add_tensor(_gguf_name(name), tensor)
                continue
            packed = gguf.quants.quantize(tensor, kind)
            writer.add_tensor(_gguf_name(name), packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(tensor: np.ndarray) -> np.ndarray:
    """Rotation pairs neighbours in GGUF and halves in Hugging Face's layout; heads of 64."""
    return tensor.reshape(-1, 2, 32, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)


def _gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    layer, inner = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{_NAMES[inner]}.weight"
