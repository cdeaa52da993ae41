"""Loads pipelines of diffusers: safetensors only, no remote code, no network."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers.pipelines.auto_pipeline import AutoPipelineForText2Image

from services.errors import FailedPrecondition
from services.image.engine import Drawing, ImageModelInfo, ImageModelSpec, Mode, Plan
from services.image.engines.device_thread import DeviceThread, Presence
from services.image.engines.diffusers_build import build_of
from services.image.engines.diffusers_compiling import compiled
from services.image.engines.diffusers_drawing import Run
from services.image.engines.diffusers_engine import DiffusersModel
from services.image.engines.diffusers_families import Family, Pipelines, find_family
from services.image.engines.diffusers_latents import LATENT_UPSCALERS, PIXEL_UPSCALERS, Codec
from services.image.engines.diffusers_machine import Machine
from services.image.engines.diffusers_preview import Colours
from services.image.engines.diffusers_rows import WIDTHS, Rows
from services.image.engines.diffusers_schedules import Solver, usable
from services.image.engines.diffusers_settings import DiffusersSettings
from services.image.engines.diffusers_text import MOST_PIECES
from services.image.samplers import AUTOMATIC
from services.weights.memory import free_bytes, in_units, weight_bytes
from services.weights.pipeline import PipelineFolder
from services.weights.processor import choose_device, choose_dtype

_log = logging.getLogger(__name__)

diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

Progress = Callable[[float], None]

_AUTO: Any = AutoPipelineForText2Image

_UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that drawing from text and images takes none of."""
_VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
"""Files of which a tokenizer has one."""
_CHECKED_PARAMETERS = 300_000_000
"""Denoisers on the CPU that are larger are not compared in batches: that would take minutes, and
batches bring them nothing."""
_MOST_CLIP_SKIP = 12


class DiffusersLoader:
    """Makes diffusers engines."""

    def __init__(self, settings: DiffusersSettings | None = None) -> None:
        self._settings = settings or DiffusersSettings()
        if self._settings.batching not in ("exact", "any", "off"):
            raise ValueError("batching has to be exact, any or off")

    async def load(self, spec: ImageModelSpec, progress: Progress) -> DiffusersModel:
        """Loads and checks a pipeline on the thread that will draw with it."""
        loop = asyncio.get_running_loop()
        device = DeviceThread("diffusers")

        def report(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        try:
            info, machine = await device.run(lambda presence: self._load(spec, report, presence))
        except BaseException:
            await device.close()
            raise
        progress(1.0)
        return DiffusersModel(info, machine, device)

    def _load(
        self, spec: ImageModelSpec, report: Progress, presence: Presence
    ) -> tuple[ImageModelInfo, Machine]:
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        folder = PipelineFolder(spec.source)
        family = find_family(folder.kind)
        _check_tokenizers(folder)
        device = choose_device(settings.device)
        wanted = spec.dtype if spec.dtype not in ("", "auto") else settings.dtype
        dtype = choose_dtype(wanted, device)
        _check_memory(folder, device, dtype)
        report(0.05)
        text = _load_pipeline(folder, device, dtype)
        presence.check()
        report(0.7)
        pipelines = Pipelines.of(family, text)
        denoiser: Any = pipelines.denoiser
        if settings.compile:
            denoiser.forward = compiled(denoiser.forward)
        rows = Rows(
            denoiser,
            exact=settings.batching != "any",
            most=settings.max_batch,
            layout=_layout(device),
        )
        codec = Codec(text)
        own = dict(text.scheduler.config)
        solvers = usable(flow=family.flow, own=own, shifts=family.shifts)
        machine = Machine(
            pipelines=pipelines,
            codec=codec,
            rows=rows,
            colours=_fit(codec),
            solvers=solvers,
            own=own,
            device=device,
            size_multiple=_size_multiple(family, denoiser, codec),
        )
        report(0.8)
        side = _own_side(text, denoiser, machine.size_multiple)
        sampler = _own_sampler(own, solvers)
        most = 1
        if settings.batching == "any":
            most = settings.max_batch
        elif settings.batching == "exact":
            most = _exact_batch(machine, side, sampler, settings.max_batch, presence)
        info = ImageModelInfo(
            name="diffusers",
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            build=build_of(device, settings, folder.digest()),
            family=family.name,
            parameter_count=_parameters(text),
            weights_sha256=_sha256(folder, family),
            filename=spec.source.name,
            width=side[0],
            height=side[1],
            size_multiple=machine.size_multiple,
            samplers=frozenset(solvers),
            schedulers=frozenset({AUTOMATIC}.union(*(s.schedules for s in solvers.values()))),
            default_sampler=sampler,
            upscalers=frozenset({*LATENT_UPSCALERS, *PIXEL_UPSCALERS}),
            modes=frozenset(Mode),
            max_clip_skip=_clip_skip(family, text),
            max_prompt_tokens=pipelines.reader[1],
            max_prompt_pieces=MOST_PIECES if pipelines.reads_pieces else 1,
            weighs_words=pipelines.reads_pieces,
            negative_prompt=not pipelines.own_guidance,
            tiling=family.convolves,
            tuning=frozenset(
                {"initial_noise_multiplier"}.union(*(s.tuning for s in solvers.values()))
            ),
            max_batch=most,
        )
        return info, machine


def _check_tokenizers(folder: PipelineFolder) -> None:
    """Refuses a tokenizer without words: transformers would go on with an empty one."""
    for part in folder.components.values():
        if "Tokenizer" in part.kind and not any((part.path / n).is_file() for n in _VOCABULARIES):
            raise FailedPrecondition(
                f"In {part.name}: its vocabulary is missing ({', '.join(_VOCABULARIES)}): copy the "
                f"whole folder again."
            )


def _check_memory(folder: PipelineFolder, device: torch.device, dtype: torch.dtype) -> None:
    needed = weight_bytes(folder.weights, dtype.itemsize)
    free = free_bytes(device)
    if needed > free:
        raise FailedPrecondition(
            f"The weights take {in_units(needed)} and {in_units(free)} of memory are free: unload "
            f"other models, or deploy a smaller one or a smaller number type."
        )


def _load_pipeline(folder: PipelineFolder, device: torch.device, dtype: torch.dtype) -> Any:
    unused: dict[str, Any] = {name: None for name in _UNUSED if name in folder.index}
    if "requires_safety_checker" in folder.index:
        unused["requires_safety_checker"] = False
    try:
        pipeline = _AUTO.from_pretrained(
            folder.path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            variant=folder.variant or None,
            **unused,
        )
        pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise FailedPrecondition(
            "The GPU's memory is too small for this pipeline: unload other models, or deploy a "
            "smaller one."
        ) from error
    except Exception as error:
        _log.warning("a pipeline can't be loaded", exc_info=True)
        raise FailedPrecondition(
            f"The pipeline's parts don't fit together ({type(error).__name__}): save it again with "
            f"`pipeline.save_pretrained(folder)`; the service's log says more."
        ) from error
    if device.type == "cuda":
        for part in (pipeline.vae, getattr(pipeline, "unet", None)):
            if part is not None:
                part.to(memory_format=_layout(device))
    if dtype is torch.float16 and pipeline.vae.config.get("force_upcast"):
        pipeline.vae.to(torch.float32)  # it overflows in 16 bits
    return pipeline


def _layout(device: torch.device) -> torch.memory_format:
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _fit(codec: Codec) -> Colours:
    with torch.inference_mode():
        return Colours(codec)


def _size_multiple(family: Family, denoiser: Any, codec: Codec) -> int:
    if family.packs:
        return codec.scale * 2
    return codec.scale * int(denoiser.config.get("patch_size") or 1)


def _own_side(text: Any, denoiser: Any, multiple: int) -> tuple[int, int]:
    sample: Any = denoiser.config.get("sample_size") or text.default_sample_size
    sides = cast("Any", sample if isinstance(sample, (list, tuple)) else (sample, sample))
    rows, columns = int(sides[0]), int(sides[1])
    scale: int = text.vae_scale_factor
    return (
        max(multiple, columns * scale // multiple * multiple),
        max(multiple, rows * scale // multiple * multiple),
    )


def _own_sampler(own: dict[str, Any], solvers: dict[str, Solver]) -> str:
    """The one that the model's own scheduler stands for."""
    for solver in solvers.values():
        same = all(own.get(key, value) == value for key, value in solver.config.items())
        if solver.scheduler == own.get("_class_name") and same:
            return solver.sampler
    return "Euler a" if "Euler a" in solvers else next(iter(solvers))


def _exact_batch(
    machine: Machine, side: tuple[int, int], sampler: str, most: int, presence: Presence
) -> int:
    """Most drawings of the model's own size that come out together as each would alone."""
    denoiser = machine.pipelines.denoiser
    if machine.device.type == "cpu" and _count(denoiser) > _CHECKED_PARAMETERS:
        return 1
    plan = Plan(*side, 1, 7.0, sampler, AUTOMATIC)

    def evaluate(width: int) -> None:
        drawings = [Drawing(f"check {seed}", "", seed) for seed in range(width)]
        Run(machine, plan, drawings, lambda _stage, _look: False, presence).evaluate()

    return machine.rows.exact_width(evaluate, most=min(most, max(WIDTHS)))


def _clip_skip(family: Family, text: Any) -> int:
    if not family.skips_layers:
        return 1
    layers = [
        int(encoder.config.num_hidden_layers)
        for name in ("text_encoder", "text_encoder_2")
        if (encoder := getattr(text, name, None)) is not None
    ]
    return max(1, min(_MOST_CLIP_SKIP, min(layers, default=1) - family.first_layer + 1))


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parameters(text: Any) -> int:
    return sum(
        _count(part) for part in text.components.values() if isinstance(part, torch.nn.Module)
    )


def _sha256(folder: PipelineFolder, family: Family) -> str:
    found = hashlib.sha256()
    for file in folder.components[family.denoiser].weights:
        with file.open("rb") as stream:
            while part := stream.read(2**20):
                found.update(part)
    return found.hexdigest()
