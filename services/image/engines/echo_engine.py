"""An engine of coloured patches. It needs no model, no torch and no GPU.

Prompt and plan choose the colours, the seed where they lie; the picture comes out of noise step by
step. Good for tests, for trying clients, and for measuring everything around an engine.
"""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from services.image.engine import (
    Drawing,
    Drawn,
    Fill,
    HiresPlan,
    ImageModelInfo,
    ImageModelSpec,
    Look,
    Mode,
    Plan,
    PromptLength,
    Stage,
    Watch,
)
from services.image.engines.device_thread import DeviceThread, Leaving, Presence
from services.image.engines.echo_patches import (
    CELL,
    Cells,
    enlarge,
    mix,
    noise_of,
    patches,
    to_cells,
    to_image,
)
from services.image.engines.plans import first_steps, second_steps, step_count
from services.image.samplers import SAMPLERS, SCHEDULERS

_WORD = re.compile(r"\w+")
UPSCALERS: Mapping[str, Image.Resampling] = {
    "Latent": Image.Resampling.BILINEAR,
    "Latent (antialiased)": Image.Resampling.BILINEAR,
    "Latent (bicubic)": Image.Resampling.BICUBIC,
    "Latent (bicubic antialiased)": Image.Resampling.BICUBIC,
    "Latent (nearest)": Image.Resampling.NEAREST,
    "Latent (nearest-exact)": Image.Resampling.NEAREST,
    "Lanczos": Image.Resampling.LANCZOS,
    "Nearest": Image.Resampling.NEAREST,
}
_TUNING = frozenset(
    {
        "eta",
        "s_churn",
        "s_tmin",
        "s_tmax",
        "s_noise",
        "s_min_uncond",
        "initial_noise_multiplier",
    }
)


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """How the echo engine behaves."""

    step_interval_s: float = 0.0
    """Time that a step takes at least."""
    width: int = 512
    """The size that it calls its own."""
    height: int = 512
    max_batch: int = 8
    """Most drawings that run together."""
    max_prompt_tokens: int = 0
    """Most words of a prompt. 0: as many as there are."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One drawing: where it starts and where it ends."""

    start: Cells
    end: Cells
    share: float = 0.0
    """Share of the way that is done."""

    @property
    def cells(self) -> Cells:
        return self.start * np.float32(1 - self.share) + self.end * np.float32(self.share)


@dataclass(frozen=True, slots=True)
class _Look:
    rows: Sequence[_Row]
    width: int
    height: int

    def preview(self, row: int) -> Image.Image:
        return to_image(self.rows[row].cells)

    def picture(self, row: int) -> Image.Image:
        return enlarge(self.rows[row].cells, self.width, self.height)


class EchoModel:
    """Draws patches. Must be used on one event loop."""

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings
        self._info = ImageModelInfo(
            name="echo",
            device="cpu",
            dtype="float32",
            build="echo-1",
            family="Echo",
            parameter_count=0,
            weights_sha256=hashlib.sha256(b"echo-1").hexdigest(),
            filename="echo",
            width=settings.width,
            height=settings.height,
            size_multiple=CELL,
            samplers=frozenset(sampler.name for sampler in SAMPLERS),
            schedulers=frozenset(scheduler.name for scheduler in SCHEDULERS),
            default_sampler="Euler a",
            upscalers=frozenset(UPSCALERS),
            modes=frozenset(Mode),
            max_clip_skip=12,
            tiling=True,
            tuning=_TUNING,
            max_batch=settings.max_batch,
            max_prompt_tokens=settings.max_prompt_tokens,
        )
        self._device = DeviceThread("echo-image")

    @property
    def info(self) -> ImageModelInfo:
        """What it is."""
        return self._info

    def refusal(self, plan: Plan) -> tuple[str, str] | None:
        """It draws every plan."""
        return None

    def memory_bytes(self, plan: Plan, count: int) -> int:
        """Cells and pictures."""
        width, height = (
            (plan.width, plan.height)
            if plan.hires is None
            else (plan.hires.width, plan.hires.height)
        )
        return count * width * height * 3 * 2

    def measure(self, text: str, *, weighs_words: bool = False) -> PromptLength:
        """Counts words."""
        return PromptLength(len(_WORD.findall(text)))

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        """Draws a batch."""
        try:
            return await self._device.run(
                lambda presence: self._draw(plan, drawings, watch, presence)
            )
        except Leaving:
            return None

    async def probe(self) -> None:
        """Draws a small picture in one step."""
        plan = Plan(CELL, CELL, 1, 7.0, self._info.default_sampler, "automatic")
        await self.draw(plan, [Drawing("probe", "", 0)], lambda _stage, _look: True)

    async def close(self) -> None:
        """Fails what runs and waits."""
        await self._device.close()

    # On the thread.

    def _draw(
        self, plan: Plan, drawings: Sequence[Drawing], watch: Watch, presence: Presence
    ) -> Drawn | None:
        began = time.perf_counter()
        total = step_count(plan)
        rows = [_first_pass(plan, drawing) for drawing in drawings]
        width, height = plan.width, plan.height
        done = 0
        passes: list[tuple[int, HiresPlan | None]] = [(first_steps(plan), None)]
        if plan.hires is not None:
            passes.append((second_steps(plan.hires), plan.hires))
        for steps, hires in passes:
            if hires is not None:
                rows = [
                    _second_pass(plan, hires, row, drawing)
                    for row, drawing in zip(rows, drawings, strict=True)
                ]
                width, height = hires.width, hires.height
            for step in range(1, steps + 1):
                presence.pause(self._settings.step_interval_s)
                rows = [replace(row, share=step / steps) for row in rows]
                done += 1
                look: Look = _Look(rows, width, height)
                if not watch(Stage(done, total), look):
                    return None
        drawn = time.perf_counter()
        pictures = [
            _finish(plan, drawing, enlarge(row.cells, width, height))
            for row, drawing in zip(rows, drawings, strict=True)
        ]
        return Drawn(pictures, drawn - began, time.perf_counter() - drawn)


class EchoLoader:
    """Makes echo engines; every folder and none will do."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings or EchoSettings()

    async def load(self, spec: ImageModelSpec, progress: Callable[[float], None]) -> EchoModel:
        """Makes an engine; `spec.source` and `spec.dtype` are not looked at."""
        progress(1.0)
        return EchoModel(self._settings)


def _first_pass(plan: Plan, drawing: Drawing) -> _Row:
    shape = (plan.height // CELL, plan.width // CELL)
    noise = noise_of(drawing, shape) * np.float32(plan.tuning.initial_noise_multiplier)
    wanted = patches(plan, drawing.prompt, drawing.negative_prompt, drawing.seed, shape)
    wanted = wanted * np.float32(0.9) + noise * np.float32(0.1)
    if plan.mode is Mode.TEXT:
        return _Row(noise, wanted)
    assert drawing.initial is not None
    initial = to_cells(drawing.initial, shape)
    if plan.mode is Mode.INPAINT and plan.fill is not Fill.PIXELS:
        initial = noise if plan.fill is Fill.NOISE else np.zeros_like(initial)
    strength = np.float32(plan.denoising_strength)
    # At strength 0 no step is done: it stays where it starts.
    return _Row(mix(initial, noise, strength), mix(initial, wanted, strength))


def _second_pass(plan: Plan, hires: HiresPlan, row: _Row, drawing: Drawing) -> _Row:
    shape = (hires.height // CELL, hires.width // CELL)
    smaller = to_image(row.cells).resize((shape[1], shape[0]), UPSCALERS[hires.upscaler])
    initial = to_cells(smaller, shape)
    larger = replace(
        plan,
        steps=hires.steps,
        sampler=hires.sampler,
        scheduler=hires.scheduler,
        cfg_scale=hires.cfg_scale,
    )
    wanted = patches(
        larger, drawing.hires_prompt, drawing.hires_negative_prompt, drawing.seed, shape
    )
    strength = np.float32(hires.denoising_strength)
    return _Row(mix(initial, noise_of(drawing, shape), strength), mix(initial, wanted, strength))


def _finish(plan: Plan, drawing: Drawing, picture: Image.Image) -> Image.Image:
    """Keeps what is outside of the mask."""
    if plan.mode is not Mode.INPAINT:
        return picture
    assert drawing.initial is not None
    assert drawing.mask is not None
    initial = drawing.initial.convert("RGB").resize(picture.size)
    return Image.composite(picture, initial, drawing.mask.convert("L").resize(picture.size))
