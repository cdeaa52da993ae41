"""What every image engine does."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from services.errors import Unavailable
from services.image.engine import Fill, HiresPlan, ImageModel, Look, Mode, Stage, Variation
from tests.conformance.image.conftest import make
from tests.conformance.image.drawing import (
    Notes,
    draw,
    draw_one,
    drawing_of,
    from_image,
    go_on,
    initial,
    mask,
    plan_for,
)
from tests.conformance.image.tiny_pipelines import SIDE

ALL_UPSCALERS = ("echo", "sd", "flux")
"""Engines that try each: one of diffusers for latents as they are, and one that packs them."""


async def test_a_seed_makes_one_picture(model: ImageModel) -> None:
    plan = plan_for(model)
    first, again = [await draw_one(model, plan, drawing_of(5)) for _ in range(2)]
    other = await draw_one(model, plan, drawing_of(6, prompt="a circle 5"))
    assert first == again
    assert first != other


async def test_a_picture_is_the_same_in_every_batch(model: ImageModel) -> None:
    plan = plan_for(model)
    seeds = [3, 4, 5]
    together = await draw(model, plan, [drawing_of(seed) for seed in seeds])
    pair = await draw(model, plan, [drawing_of(5), drawing_of(4)])
    alone = [await draw_one(model, plan, drawing_of(seed)) for seed in seeds]
    assert [picture.tobytes() for picture in together] == alone
    assert [picture.tobytes() for picture in pair] == [alone[2], alone[1]]


async def test_pictures_from_images_are_the_same_in_every_batch(model: ImageModel) -> None:
    plan = from_image(model, Mode.INPAINT)
    drawings = [
        drawing_of(seed, initial=initial().rotate(seed), mask=mask(0).rotate(seed))
        for seed in (1, 2)
    ]
    together = await draw(model, plan, drawings)
    assert [picture.tobytes() for picture in together] == [
        await draw_one(model, plan, drawing) for drawing in drawings
    ]


async def test_pictures_are_rgb_of_the_size(model: ImageModel) -> None:
    pictures = await draw(model, plan_for(model, width=2 * SIDE, steps=1), [drawing_of()])
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (2 * SIDE, SIDE))]


async def test_what_is_asked_for_is_drawn(model: ImageModel) -> None:
    plan = plan_for(model)
    plain = await draw_one(model, plan, drawing_of(1))
    assert await draw_one(model, plan, drawing_of(1, prompt="a square")) != plain
    assert await draw_one(model, replace(plan, steps=4), drawing_of(1)) != plain
    avoided = await draw_one(model, plan, drawing_of(1, negative_prompt="blur"))
    assert (avoided != plain) == model.info.negative_prompt


async def test_without_guidance_the_negative_prompt_has_no_say(model: ImageModel) -> None:
    plan = plan_for(model, cfg_scale=1.0)
    plain = await draw_one(model, plan, drawing_of(1))
    assert await draw_one(model, plan, drawing_of(1, negative_prompt="blur")) == plain


@pytest.mark.parametrize(
    ("mode", "strength", "count"),
    [(Mode.TEXT, 1.0, 4), (Mode.IMAGE, 0.5, 2), (Mode.IMAGE, 0.01, 1), (Mode.INPAINT, 1.0, 4)],
)
async def test_every_step_is_watched(
    model: ImageModel, mode: Mode, strength: float, count: int
) -> None:
    plan = plan_for(model, mode=mode, steps=4, denoising_strength=strength)
    given = {"initial": initial(), "mask": mask(255)} if mode is not Mode.TEXT else {}
    notes = Notes()
    drawn = await model.draw(plan, [drawing_of(1, **given)], notes)
    assert drawn is not None
    assert notes.stages == [Stage(step, count) for step in range(1, count + 1)]
    assert all(preview.mode == "RGB" for preview in notes.previews)
    assert all(preview.width <= SIDE for preview in notes.previews)
    assert [picture.size for picture in notes.pictures] == [(SIDE, SIDE)] * count
    if mode is Mode.TEXT:
        assert notes.pictures[-1].tobytes() == drawn.pictures[0].tobytes()


async def test_a_watch_gives_up(model: ImageModel) -> None:
    notes = Notes(stop_after=2)
    assert await model.draw(plan_for(model, steps=5), [drawing_of(), drawing_of(2)], notes) is None
    assert [stage.step for stage in notes.stages] == [1, 2]


async def test_an_exception_of_the_watch_is_raised(model: ImageModel) -> None:
    def fail(_stage: Stage, _look: Look) -> bool:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await model.draw(plan_for(model), [drawing_of()], fail)


async def test_a_cancelled_call_ends_within_a_step(model: ImageModel) -> None:
    plan = plan_for(model)
    expected = await draw_one(model, plan, drawing_of())
    began, go = threading.Event(), threading.Event()
    steps: list[int] = []

    def wait(stage: Stage, _look: Look) -> bool:
        steps.append(stage.step)
        began.set()
        go.wait(60)
        return True

    call = asyncio.ensure_future(model.draw(plan, [drawing_of()], wait))
    await asyncio.to_thread(began.wait, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    assert await draw_one(model, plan, drawing_of()) == expected
    assert steps == [1]


async def test_calls_wait_for_each_other(model: ImageModel) -> None:
    plan = plan_for(model)
    alone = [await draw_one(model, plan, drawing_of(seed)) for seed in (1, 2, 3)]
    assert alone == await asyncio.gather(
        *(draw_one(model, plan, drawing_of(seed)) for seed in (1, 2, 3))
    )


async def test_strength_0_takes_no_step(model: ImageModel) -> None:
    plan = plan_for(model, mode=Mode.IMAGE, denoising_strength=0.0)
    notes = Notes()
    drawn = await model.draw(plan, [drawing_of(1, initial=initial())], notes)
    assert drawn is not None
    assert notes.stages == []
    assert drawn.pictures[0].size == (SIDE, SIDE)


async def test_a_black_mask_keeps_all(model: ImageModel, name: str) -> None:
    if name == "inpainting":
        pytest.skip("such a denoiser keeps by itself what the mask hides")
    plan = from_image(model, Mode.INPAINT)
    kept = await draw_one(
        model, replace(plan, denoising_strength=0.0), drawing_of(initial=initial(), mask=mask(0))
    )
    found = [
        await draw_one(model, plan, drawing_of(initial=initial(), mask=mask(value)))
        for value in (0, 128, 255)
    ]
    assert found[0] == kept
    assert len(set(found)) == 3


async def test_the_mask_can_be_filled(model: ImageModel) -> None:
    plan = from_image(model, Mode.INPAINT)
    drawing = drawing_of(initial=initial(), mask=mask(255))
    found = {await draw_one(model, replace(plan, fill=fill), drawing) for fill in Fill}
    assert len(found) == len(Fill)


async def test_images_of_another_size_are_scaled_in_latent_space(model: ImageModel) -> None:
    plan = from_image(model, latent_resize=True)
    picture = (await draw(model, plan, [drawing_of(initial=initial((2 * SIDE + 5, SIDE)))]))[0]
    assert picture.size == (SIDE, SIDE)


async def test_noise_of_the_image_is_scaled(model: ImageModel) -> None:
    plan = from_image(model)
    more = replace(plan, tuning=replace(plan.tuning, initial_noise_multiplier=1.5))
    drawing = drawing_of(initial=initial())
    assert await draw_one(model, plan, drawing) != await draw_one(model, more, drawing)


async def test_the_second_pass_is_larger(model: ImageModel, name: str) -> None:
    sampler = model.info.default_sampler
    second = HiresPlan(2 * SIDE, SIDE + 32, "Latent", 4, 0.5, sampler, "automatic", 5.0)
    pictures: set[bytes] = set()
    assert {"Latent", "Lanczos"} <= model.info.upscalers
    tried = model.info.upscalers if name in ALL_UPSCALERS else {"Latent", "Lanczos"}
    for upscaler in sorted(tried):
        plan = plan_for(model, steps=2, hires=replace(second, upscaler=upscaler))
        notes = Notes()
        drawn = await model.draw(plan, [drawing_of()], notes)
        assert drawn is not None
        assert drawn.pictures[0].size == (2 * SIDE, SIDE + 32)
        assert notes.stages == [Stage(step, 4) for step in range(1, 5)]
        assert notes.pictures[1].size == (SIDE, SIDE)
        assert notes.pictures[2].size == (2 * SIDE, SIDE + 32)
        pictures.add(drawn.pictures[0].tobytes())
    assert len(pictures) > 1
    plan = plan_for(model, steps=2, hires=second)
    other = drawing_of(hires_prompt="a square")
    assert await draw_one(model, plan, drawing_of()) != await draw_one(model, plan, other)


async def test_noise_can_be_varied(model: ImageModel) -> None:
    plan = plan_for(model)
    plain = await draw_one(model, plan, drawing_of(1))
    found = [
        await draw_one(model, plan, drawing_of(1, variation=variation))
        for variation in (
            Variation(9, 0.0),
            Variation(9, 0.5),
            Variation(8, 0.5),
            Variation(9, 0.5, SIDE // 2, SIDE // 2),
            Variation(9, 0.5, SIDE * 2, SIDE // 2),
        )
    ]
    assert found[0] == plain
    assert len(set(found)) == len(found)


async def test_clip_skip(model: ImageModel) -> None:
    most = model.info.max_clip_skip
    refused = model.refusal(plan_for(model, clip_skip=most + 1))
    if model.info.name != "echo":
        assert refused is not None
        assert refused[0] == "clip_skip"
    found = {
        await draw_one(model, plan_for(model, clip_skip=skip), drawing_of())
        for skip in range(1, min(most, 3) + 1)
    }
    assert len(found) == min(most, 3)


async def test_tiling(model: ImageModel) -> None:
    plan = plan_for(model, tiling=True)
    if not model.info.tiling:
        refused = model.refusal(plan)
        assert refused is not None
        assert refused[0] == "tiling"
        return
    plain = await draw_one(model, plan_for(model), drawing_of())
    assert await draw_one(model, plan, drawing_of()) != plain
    assert await draw_one(model, plan_for(model), drawing_of()) == plain


async def test_more_takes_more_memory(model: ImageModel) -> None:
    small = model.memory_bytes(plan_for(model), 1)
    assert 0 < small < model.memory_bytes(plan_for(model), 8)
    assert small < model.memory_bytes(plan_for(model, width=8 * SIDE), 1)


async def test_tokens_are_counted(model: ImageModel) -> None:
    assert model.measure("").tokens == 0
    short, longer = model.measure("a circle"), model.measure("a circle and a square")
    assert 0 < short.tokens < longer.tokens
    info, long = model.info, model.measure("circle " * 600)
    assert long.tokens > info.max_prompt_tokens, "what isn't read is counted too"
    assert (long.pieces > 1) is (info.max_prompt_pieces > 1)


async def test_the_probe_draws(model: ImageModel) -> None:
    await model.probe()


def test_the_info_is_whole(model: ImageModel) -> None:
    info = model.info
    assert info.default_sampler in info.samplers
    assert "automatic" in info.schedulers
    assert len(info.weights_sha256) == 64
    assert info.width % info.size_multiple == 0
    assert info.max_batch >= 1
    assert Mode.TEXT in info.modes


@pytest.mark.parametrize("fresh", ["echo", "sd"])
def test_closing_ends_what_runs(fresh: str, folders: Path) -> None:
    model = make(fresh, folders)
    began, go = threading.Event(), threading.Event()

    def wait(_stage: Stage, _look: Look) -> bool:
        began.set()
        go.wait(60)
        return True

    async def close() -> None:
        running = asyncio.ensure_future(model.draw(plan_for(model), [drawing_of()], wait))
        await asyncio.to_thread(began.wait, 60)
        waiting = asyncio.ensure_future(model.draw(plan_for(model), [drawing_of()], go_on))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(model.close())
        await asyncio.sleep(0)
        go.set()
        await closing
        for call in (running, waiting):
            with pytest.raises(Unavailable):
                await call
        with pytest.raises(Unavailable):
            await model.draw(plan_for(model), [drawing_of()], go_on)

    asyncio.run(close())


@pytest.mark.parametrize("fresh", ["echo", "sd"])
def test_a_restart_gives_the_same_bytes(fresh: str, folders: Path) -> None:
    async def one(model: ImageModel) -> bytes:
        try:
            return await draw_one(model, plan_for(model), drawing_of(11))
        finally:
            await model.close()

    first, second = (asyncio.run(one(make(fresh, folders))) for _ in range(2))
    assert first == second
