"""Loads Hugging Face encoders: safetensors only, no remote code, no network."""

import asyncio
from collections.abc import Callable

import torch
import transformers

from services.embedding.engine import EncoderInfo, EncoderSpec
from services.embedding.engines.dense import Finish
from services.embedding.engines.encoder_check import samples
from services.embedding.engines.encoder_facts import read_facts
from services.embedding.engines.encoder_model import ModelLoading
from services.embedding.engines.hf_text import load_tokenizer
from services.embedding.engines.torch_encoder import Machine, TorchEncoder
from services.embedding.engines.torch_settings import TorchSettings
from services.weights.processor import choose_device, choose_dtype

transformers.utils.logging.disable_progress_bar()

Progress = Callable[[float], None]


class TorchLoader:
    """Makes torch encoders."""

    def __init__(self, settings: TorchSettings | None = None) -> None:
        self._settings = settings or TorchSettings()

    async def load(self, spec: EncoderSpec, progress: Progress) -> TorchEncoder:
        """Loads and checks a model on another thread."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        encoder = await asyncio.to_thread(self._load, spec, report)
        progress(1.0)
        return encoder

    def _load(self, spec: EncoderSpec, report: Progress) -> TorchEncoder:
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        facts = read_facts(
            spec.source, context_length=spec.context_length, scores_pairs=spec.scores_pairs
        )
        files, folder, config = facts.files, facts.folder, facts.config
        context = facts.context_length
        device = choose_device(settings.device)
        dtype = choose_dtype(
            spec.dtype if spec.dtype not in ("", "auto") else settings.dtype, device
        )
        report(0.05)
        text = load_tokenizer(folder, lowercase=files.lowercase, pools_prefix=files.pools_prompt)
        report(0.15)
        loading = ModelLoading(
            folder,
            config,
            device,
            dtype,
            scores_pairs=spec.scores_pairs,
            types=text.pair_types,
            samples=samples(
                vocabulary_size=facts.vocabulary_size,
                context_length=context,
                avoid=int(getattr(config, "pad_token_id", None) or 0),
                pairs=spec.scores_pairs,
            ),
        )
        model = loading.load(settings.encoder)
        report(0.9)
        modes = facts.modes
        finish = Finish(files.after, len(modes) * model.width, device)
        vectors = not spec.scores_pairs
        info = EncoderInfo(
            name="torch",
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            build=(
                f"torch-{torch.__version__}_transformers-{transformers.__version__}_"
                f"{'packed_' if model.packed else ''}"
                f"{facts.digest()}"
            ),
            context_length=context,
            vocabulary_size=facts.vocabulary_size,
            parameter_count=model.parameter_count,
            dimensions=finish.dimensions if vectors else 0,
            shortening=vectors and files.shortening,
            normalizes=vectors and finish.normalizes,
            scores_pairs=spec.scores_pairs,
            prompts=dict(files.prompts) if vectors else {},
            default_prompt=files.default_prompt if vectors else "",
            batch_tokens=settings.batch_tokens,
        )
        return TorchEncoder(info, text, Machine(model, modes, finish, device))
