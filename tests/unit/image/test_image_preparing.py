"""From requests to orders: what is filled in, what is refused up front, and with which limit."""

import io
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.errors import (
    ContextLengthExceeded,
    DomainError,
    InvalidArgument,
    QueueFull,
    UnsupportedParameter,
)
from services.image.defaults import Options
from services.image.engine import Fill, ImageModelInfo, Mode, Plan, Variation
from services.image.engines.echo_engine import EchoModel, EchoSettings
from services.image.limits import Limits
from services.image.memory import budget
from services.image.orders import Order, partial_steps
from services.image.preparing import Preparer, Target
from services.image.requests import (
    Background,
    HiresWish,
    ImageRequest,
    InpaintingWish,
    MaskFill,
    OutputFormat,
    Resize,
    TuningWish,
    VariationWish,
)
from services.image.sources import Threads
from services.serving.models import ModelSettings

GIB = 1024**3
LIMITS = Limits(max_pixels=512 * 512, max_input_pixels=600 * 600)


class ModestModel(EchoModel):
    """The echo engine with less than it can."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(EchoSettings(width=128, height=64))
        self._modest = replace(super().info, **changes)

    @property
    def info(self) -> ImageModelInfo:
        return self._modest

    def refusal(self, plan: Plan) -> tuple[str, str] | None:
        if plan.sampler == "LCM" and plan.cfg_scale > 2:
            return "cfg_scale", "LCM wants at most 2."
        return None


class World:
    """A preparer and a model."""

    def __init__(self, threads: Threads) -> None:
        self.preparer = Preparer(threads, LIMITS, "Penstock 0")
        self.model: EchoModel = EchoModel(EchoSettings(width=128, height=64))
        self.budget = GIB
        self.held: list[int] = []
        self.settings = ModelSettings()

    async def prepare(self, options: Options | None = None, **more: Any) -> Order:
        target = Target("echo", self.model, "fp", lambda: self.budget, self.settings)
        request = ImageRequest(**{"prompt": "a b", "seed": 5} | more)
        return await self.preparer.prepare(request, options or Options(), target, self.held.append)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with closing(Threads()) as threads:
        world = World(threads)
        yield world
        await world.model.close()


def png(width: int, height: int, colour: Any = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


MASK = InpaintingWish(mask=png(64, 64, "white"))


async def test_defaults_are_filled_in(world: World) -> None:
    order = await world.prepare()
    plan, asked = order.plan, order.effective
    assert (plan.width, plan.height, plan.steps, plan.cfg_scale) == (128, 64, 20, 7.0)
    assert (plan.sampler, plan.scheduler, plan.mode) == ("Euler a", "automatic", Mode.TEXT)
    assert (asked.model, asked.batch_size, asked.batch_count, asked.clip_skip) == ("echo", 1, 1, 1)
    assert (asked.output_format, asked.quality) == (OutputFormat.PNG, 100)
    assert order.prompt_tokens == 2
    assert [(drawing.seed, drawing.initial) for drawing in order.drawings] == [(5, None)]


async def test_options_go_before_defaults_and_requests_before_options(world: World) -> None:
    options = Options(
        clip_skip=3, output_format=OutputFormat.JPEG, preview_interval_steps=2, vae="None"
    )
    order = await world.prepare(options)
    assert order.plan.clip_skip == 3
    assert order.preview_interval_steps == 2
    assert order.effective.output_format is OutputFormat.JPEG
    order = await world.prepare(
        options, clip_skip=1, output_format=OutputFormat.WEBP, preview_interval_steps=0
    )
    assert order.plan.clip_skip == 1
    assert order.preview_interval_steps == 0
    assert order.effective.output_format is OutputFormat.WEBP


async def test_a_models_settings_go_before_defaults_and_requests_before_them(world: World) -> None:
    world.settings = ModelSettings(default_steps=4, default_cfg_scale=0.0)
    hires = HiresWish(scale=1.5)
    order = await world.prepare(hires=hires)
    assert (order.plan.steps, order.plan.cfg_scale) == (4, 0.0)
    assert order.plan.hires is not None
    assert (order.plan.hires.steps, order.plan.hires.cfg_scale) == (4, 0.0)
    order = await world.prepare(steps=9, cfg_scale=5.0, hires=hires)
    assert (order.plan.steps, order.plan.cfg_scale) == (9, 5.0)
    assert order.plan.hires is not None
    assert (order.plan.hires.steps, order.plan.hires.cfg_scale) == (9, 5.0)


async def test_images_of_a_job(world: World) -> None:
    order = await world.prepare(
        batch_size=2, batch_count=2, variation=VariationWish(subseed=9, strength=0.5, seed_width=64)
    )
    assert [drawing.seed for drawing in order.drawings] == [5, 6, 7, 8]
    variations = [drawing.variation for drawing in order.drawings]
    assert variations == [Variation(9 + number, 0.5, 64, 64) for number in range(4)]
    neutral = await world.prepare(variation=VariationWish(subseed=9, strength=0.0))
    assert neutral.drawings[0].variation is None
    several = await world.prepare(
        init_images=[png(64, 64), png(32, 32, "blue")], batch_size=4, batch_count=2
    )
    assert (several.batch_size, len(several.drawings)) == (2, 4)
    colours = [drawing.initial.getpixel((0, 0)) for drawing in several.drawings if drawing.initial]
    assert colours == [(255, 0, 0), (0, 0, 255)] * 2
    assert world.held == [2 * 64 * 64 * 4]


@pytest.mark.parametrize(
    ("wish", "want"),
    [
        (HiresWish(), (256, 128)),
        (HiresWish(scale=1.1), (136, 64)),
        (HiresWish(width=256), (256, 128)),
        (HiresWish(height=96), (192, 96)),
        (HiresWish(width=128, height=128), (128, 128)),
    ],
)
async def test_sizes_of_a_second_pass(world: World, wish: HiresWish, want: tuple[int, int]) -> None:
    order = await world.prepare(hires=wish, steps=10)
    hires = order.plan.hires
    assert hires is not None
    assert (hires.width, hires.height, hires.steps, hires.sampler) == (*want, 10, "Euler a")
    assert order.step_count == 10 + 7
    assert order.drawings[0].hires_prompt == "a b"


@pytest.mark.parametrize(
    ("fill", "want"),
    [
        (MaskFill.ORIGINAL, Fill.PIXELS),
        (MaskFill.SURROUNDINGS, Fill.PIXELS),
        (MaskFill.LATENT_NOISE, Fill.NOISE),
        (MaskFill.LATENT_NOTHING, Fill.NOTHING),
    ],
)
async def test_fills_of_a_mask(world: World, fill: MaskFill, want: Fill) -> None:
    order = await world.prepare(
        init_images=[png(64, 64)], inpainting=replace(MASK, fill=fill, full_resolution=False)
    )
    assert (order.plan.mode, order.plan.fill) == (Mode.INPAINT, want)
    assert order.drawings[0].mask is not None
    assert order.drawings[0].mask.size == (64, 64)
    assert order.effective.inpainting is not None
    assert order.effective.inpainting.mask == b""


async def test_scaling_in_latents(world: World) -> None:
    order = await world.prepare(
        init_images=[png(65, 40)], width=128, height=64, resize_mode=Resize.LATENT
    )
    assert order.plan.latent_resize
    assert order.drawings[0].initial is not None
    assert order.drawings[0].initial.size == (64, 40)
    same = await world.prepare(init_images=[png(64, 64)], resize_mode=Resize.LATENT)
    assert not same.plan.latent_resize, "there is nothing to scale"


@pytest.mark.parametrize(
    ("given_values", "plan_field", "want"),
    [
        ({"tuning": TuningWish(s_churn=3.0, s_noise=1.0)}, "tuning.s_churn", 3.0),
        ({"tuning": TuningWish(eta=0.0)}, "tuning.eta", 0.0),
        ({"tiling": True}, "tiling", True),
        ({"clip_skip": 2}, "clip_skip", 2),
        ({"cfg_scale": 0.0}, "cfg_scale", 0.0),
        ({"sampler": "DPM++ 2M Karras"}, "scheduler", "karras"),
        ({"sampler": "DPM++ 2M Karras", "scheduler": "simple"}, "scheduler", "simple"),
        ({"vae": "automatic"}, "width", 128),
    ],
)
async def test_what_is_asked_for_is_in_the_plan(
    world: World, given_values: dict[str, Any], plan_field: str, want: Any
) -> None:
    found: Any = (await world.prepare(**given_values)).plan
    for name in plan_field.split("."):
        found = getattr(found, name)
    assert found == want


LIMITED: list[tuple[dict[str, Any], str, str]] = [
    ({"width": 1024, "height": 512}, "width", "max_pixels"),
    ({"hires": HiresWish(scale=4.0), "width": 256, "height": 256}, "hires", "max_pixels"),
    ({"steps": 151}, "steps", "max_steps"),
    ({"hires": HiresWish(steps=151)}, "hires.steps", "max_steps"),
    ({"batch_size": 17}, "batch_size", "max_batch_size"),
    ({"batch_size": 16, "batch_count": 5}, "batch_count", "max_images"),
    ({"init_images": [png(580, 580)]}, "width", "max_pixels"),
    (
        {"init_images": [png(580, 580)], "width": 64, "height": 64, "inpainting": MASK},
        "init_images",
        "max_pixels",
    ),
    (
        {"init_images": [png(580, 580)], "width": 64, "height": 64, "resize_mode": Resize.LATENT},
        "init_images",
        "max_pixels",
    ),
]


@pytest.mark.parametrize(("given_values", "field", "limit"), LIMITED)
async def test_limits_are_named(
    world: World, given_values: dict[str, Any], field: str, limit: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.prepare(**given_values)
    assert (caught.value.field, caught.value.metadata["limit"]) == (field, limit)
    assert limit in caught.value.message


async def test_memory_is_a_limit(world: World) -> None:
    world.budget = 100_000
    with pytest.raises(InvalidArgument) as caught:
        await world.prepare(width=512, height=512)
    assert caught.value.metadata["limit"] == "memory_bytes"
    # Many that fit one by one are drawn one by one.
    assert len((await world.prepare(width=64, height=64, batch_size=16)).drawings) == 16


async def test_a_queue_without_room_for_pictures(world: World) -> None:
    def full(count: int) -> None:
        raise QueueFull("full")

    target = Target("echo", world.model, "fp", lambda: GIB)
    request = ImageRequest(init_images=[png(64, 64)])
    with pytest.raises(QueueFull):
        await world.preparer.prepare(request, Options(), target, full)


UNABLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"tiling": False}, {"tiling": True}, "tiling"),
    ({"negative_prompt": False}, {"negative_prompt": "x"}, "negative_prompt"),
    (
        {"negative_prompt": False},
        {"hires": HiresWish(negative_prompt="x")},
        "hires.negative_prompt",
    ),
    ({"max_clip_skip": 2}, {"clip_skip": 3}, "clip_skip"),
    ({"variation": False}, {"variation": VariationWish(strength=0.1)}, "variation"),
    ({"tuning": frozenset({"eta"})}, {"tuning": TuningWish(s_churn=1.0)}, "sampler_tuning.s_churn"),
    ({"modes": frozenset({Mode.TEXT})}, {"init_images": [png(64, 64)]}, "init_images"),
    (
        {"modes": frozenset({Mode.TEXT, Mode.IMAGE})},
        {"init_images": [png(64, 64)], "inpainting": MASK},
        "inpainting",
    ),
    ({}, {"background": Background.TRANSPARENT}, "background"),
    (
        {},
        {
            "init_images": [png(64, 64)],
            "resize_mode": Resize.LATENT,
            "inpainting": replace(MASK, full_resolution=False),
        },
        "resize_mode",
    ),
    ({}, {"sampler": "LCM"}, "cfg_scale"),
]


@pytest.mark.parametrize(("changes", "given_values", "field"), UNABLE)
async def test_what_the_model_can_not_do(
    world: World, changes: dict[str, Any], given_values: dict[str, Any], field: str
) -> None:
    world.model = ModestModel(**changes)
    with pytest.raises(UnsupportedParameter) as caught:
        await world.prepare(**given_values)
    assert caught.value.field == field
    neutral = {
        "tiling": False,
        "negative_prompt": "",
        "clip_skip": 1,
        "tuning": TuningWish(s_churn=0.0, s_noise=1.0, s_min_uncond=0.0),
        "variation": VariationWish(subseed=3, strength=0.0),
    }
    assert (await world.prepare(**neutral)).plan.sampler == "Euler a"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": "a b c d"}, "prompt"),
        ({"negative_prompt": "a b c d"}, "negative_prompt"),
        ({"hires": HiresWish(prompt="a b c d")}, "hires.prompt"),
        ({"hires": HiresWish(negative_prompt="a b c d")}, "hires.negative_prompt"),
    ],
)
async def test_prompts_are_read_whole_or_refused(
    world: World, changes: dict[str, Any], field: str
) -> None:
    world.model = ModestModel(max_prompt_tokens=3)
    whole = {name: "a b c" if isinstance(wish, str) else wish for name, wish in changes.items()}
    if "hires" not in changes:
        assert (await world.prepare(**whole)).prompt_tokens >= 3
    with pytest.raises(ContextLengthExceeded, match=r"reads 3 tokens.*has 4") as caught:
        await world.prepare(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("weighs", [True, False])
async def test_words_are_weighed_where_the_request_and_the_model_do(
    world: World, weighs: bool
) -> None:
    world.model = ModestModel(weighs_words=weighs)
    plainly = await world.prepare(prompt="[a|b]")
    assert not plainly.drawings[0].weighs_words
    weighed = await world.prepare(prompt="(a:2)", weighs_words=True)
    assert weighed.drawings[0].weighs_words is weighs
    assert weighed.plan == plainly.plan, "so they may be drawn together"
    if weighs:
        with pytest.raises(UnsupportedParameter) as caught:
            await world.prepare(negative_prompt="[a|b]", weighs_words=True)
        assert caught.value.field == "negative_prompt"


async def test_transparency_needs_a_format_that_has_it(world: World) -> None:
    world.model = ModestModel(transparency=True)
    order = await world.prepare(background=Background.TRANSPARENT)
    assert order.effective.background is Background.TRANSPARENT
    with pytest.raises(InvalidArgument) as caught:
        await world.prepare(background=Background.TRANSPARENT, output_format=OutputFormat.JPEG)
    assert caught.value.field == "background"


async def test_sizes_are_multiples_of_the_models(world: World) -> None:
    world.model = ModestModel(size_multiple=16)
    with pytest.raises(InvalidArgument, match="Take 16") as caught:
        await world.prepare(width=24)
    assert caught.value.field == "width"
    order = await world.prepare(init_images=[png(40, 70)])
    assert (order.plan.width, order.plan.height) == (32, 64)


SIZES = st.integers(1, 80).map(lambda number: number * 8)


@given(
    width=SIZES,
    height=SIZES,
    steps=st.integers(1, 200),
    batch_size=st.integers(1, 20),
    batch_count=st.integers(1, 10),
    seed=st.sampled_from([-1, 0, 2**53 - 1, 2**53 - 30]),
)
async def test_what_passes_is_within_all_limits(
    width: int, height: int, steps: int, batch_size: int, batch_count: int, seed: int
) -> None:
    with closing(Threads()) as threads:
        world = World(threads)
        try:
            order = await world.prepare(
                width=width,
                height=height,
                steps=steps,
                batch_size=batch_size,
                batch_count=batch_count,
                seed=seed,
            )
        except DomainError:
            count = batch_size * batch_count
            assert (
                width * height > LIMITS.max_pixels
                or steps > LIMITS.max_steps
                or batch_size > LIMITS.max_batch_size
                or count > LIMITS.max_images
                or seed + count > 2**53
            )
        else:
            assert order.plan.width * order.plan.height <= LIMITS.max_pixels
            assert order.plan.steps <= LIMITS.max_steps
            assert len(order.drawings) == batch_size * batch_count <= LIMITS.max_images
            assert all(0 <= drawing.seed < 2**53 for drawing in order.drawings)
        finally:
            await world.model.close()


@given(count=st.integers(0, 3), steps=st.integers(0, 200))
def test_partial_pictures_are_spread_evenly(count: int, steps: int) -> None:
    found = partial_steps(count, steps)
    assert len(found) == min(count, max(0, steps - 1))
    assert found == sorted(set(found))
    assert all(0 < step < steps for step in found)
    gaps = [after - before for before, after in zip([0, *found], [*found, steps], strict=True)]
    assert not found or max(gaps) - min(gaps) <= 1


async def test_memory_is_what_is_set_or_what_is_free() -> None:
    class Roomy(EchoModel):
        def free_memory_bytes(self) -> int:
            return 1000

    echo, roomy = EchoModel(EchoSettings()), Roomy(EchoSettings())
    assert budget(roomy, 0)() == 900, "the engine knows its device"
    assert budget(roomy, 5)() == 5
    assert 1 << 20 < budget(echo, 0)() <= 1 << 62
    await echo.close()
    await roomy.close()
