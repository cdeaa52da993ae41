"""Image engines on a real Triton: what each engine does, and the bytes of the diffusers engine."""

import asyncio
import json
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.errors import FailedPrecondition, InvalidArgument, QueueFull, Unavailable
from services.image.engine import ImageModel, ImageModelSpec, Look, Mode, Stage
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.triton_engine import read_event
from services.image.engines.triton_loader import TritonLoader
from services.settings_triton import TritonSettings
from services.tritonserver.calls import CallOptions, stream
from services.tritonserver.endpoints import Triton
from services.tritonserver.tensors import Tensor, bytes_tensor, from_response, tensor, to_request
from tests.conformance.image.conftest import SETTINGS
from tests.conformance.image.drawing import (
    Notes,
    draw_one,
    drawing_of,
    from_image,
    go_on,
    initial,
    mask,
    plan_for,
)
from tests.conformance.image.test_every_image_engine import (  # noqa: F401  (the same promises)
    test_a_cancelled_call_ends_within_a_step,
    test_a_picture_is_the_same_in_every_batch,
    test_a_seed_makes_one_picture,
    test_a_watch_gives_up,
    test_an_exception_of_the_watch_is_raised,
    test_calls_wait_for_each_other,
    test_every_step_is_watched,
    test_more_takes_more_memory,
    test_pictures_from_images_are_the_same_in_every_batch,
    test_strength_0_takes_no_step,
    test_the_info_is_whole,
    test_the_probe_draws,
    test_tiling,
)
from tests.conformance.image.triton.conftest import NAME
from tests.triton_server import TritonServer


async def test_every_picture_is_that_of_the_diffusers_engine(
    model: ImageModel, pipeline: Path
) -> None:
    spec = ImageModelSpec("own", "1", pipeline)
    own = await DiffusersLoader(SETTINGS).load(spec, lambda _share: None)
    plans = [
        (plan_for(model), drawing_of()),
        (
            from_image(model, Mode.INPAINT),
            drawing_of(initial=initial(), mask=mask(128).rotate(3, fillcolor=255)),
        ),
    ]
    for plan, drawing in plans:
        seen = [Notes(), Notes()]
        drawn = [
            await each.draw(plan, [drawing], notes)
            for each, notes in zip((model, own), seen, strict=True)
        ]
        assert drawn[0] is not None
        assert drawn[1] is not None
        assert drawn[0].pictures[0].tobytes() == drawn[1].pictures[0].tobytes()
        assert seen[0].stages == seen[1].stages
        for kind in ("previews", "pictures"):
            here, there = (getattr(notes, kind) for notes in seen)
            assert [one.tobytes() for one in here] == [one.tobytes() for one in there]
    text = "a circle (and:1.2) a square"
    for weighs in (True, False):
        mine = await asyncio.to_thread(model.measure, text, weighs_words=weighs)
        assert mine == own.measure(text, weighs_words=weighs)
    plan = plan_for(model)
    assert model.memory_bytes(plan, 2) == own.memory_bytes(plan, 2)
    for same in ("samplers", "schedulers", "modes", "weights_sha256", "default_sampler", "tuning"):
        assert getattr(model.info, same) == getattr(own.info, same)
    refused = plan_for(model, sampler="LCM", scheduler="karras")
    assert model.refusal(refused) == own.refusal(refused) != None  # noqa: E711
    await own.close()


async def test_tokens_are_counted(model: ImageModel) -> None:
    counted = [
        await asyncio.to_thread(model.measure, text)
        for text in ("", "a circle", "a circle and a square", "circle " * 600)
    ]
    assert [one.tokens for one in counted] == sorted(one.tokens for one in counted)
    assert counted[0].tokens == 0
    assert (counted[3].pieces > 1) is (model.info.max_prompt_pieces > 1)


async def test_closing_ends_what_runs(hosting: TritonServer) -> None:
    triton = Triton(TritonSettings(endpoints=(hosting.address,), manage_models=False))
    spec = ImageModelSpec(NAME, "1", Path())
    model = await TritonLoader(triton).load(spec, lambda _share: None)
    began, go = threading.Event(), threading.Event()

    def wait(_stage: Stage, _look: Look) -> bool:
        began.set()
        go.wait(60)
        return True

    running = asyncio.ensure_future(model.draw(plan_for(model), [drawing_of()], wait))
    await asyncio.to_thread(began.wait, 60)
    waiting = asyncio.ensure_future(model.draw(plan_for(model), [drawing_of()], go_on))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(model.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    for call in (running, waiting, model.draw(plan_for(model), [drawing_of()], go_on)):
        with pytest.raises(Unavailable):
            await call
    await triton.close()


async def test_triton_gives_a_cancelled_drawing_up(
    hosting: TritonServer, model: ImageModel
) -> None:
    """Within a step: a drawing of 900 steps would keep the next one waiting for long."""
    plan = plan_for(model, steps=900)
    told = asyncio.get_running_loop().create_future()

    def watch(stage: Stage, _look: Look) -> bool:
        told.get_loop().call_soon_threadsafe(lambda: told.done() or told.set_result(None))
        return stage.step < 3

    call = asyncio.ensure_future(model.draw(plan, [drawing_of()], watch))
    await told
    assert await call is None
    assert await draw_one(model, plan_for(model, steps=1), drawing_of())


def order_of(**order: Any) -> list[Tensor]:
    return [bytes_tensor("order", [json.dumps(order)])]


async def answers_to(hosting: TritonServer, inputs: list[Tensor]) -> list[dict[str, Any]]:
    triton = Triton(TritonSettings(endpoints=(hosting.address,)))
    request = to_request(NAME, inputs)
    try:
        async with aclosing(stream(triton.endpoints[0], request, CallOptions())) as answers:
            return [read_event(from_response(answer)) async for answer in answers]
    finally:
        await triton.close()


async def test_a_short_order_draws(hosting: TritonServer) -> None:
    events = await answers_to(hosting, order_of(op="draw", drawings=[{"prompt": "a", "seed": 1}]))
    assert [event["type"] for event in events] == ["step"] * 20 + ["done"]


async def test_more_drawings_than_may_wait_are_turned_away(hosting: TritonServer) -> None:
    drawing = {"prompt": "a", "seed": 1}
    order = order_of(op="draw", plan={"steps": 900}, drawings=[drawing])
    calls = [asyncio.ensure_future(answers_to(hosting, order)) for _ in range(7)]
    waiting = set(calls)
    while len(waiting) > 4:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(call.exception(), QueueFull) for call in done)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    one_step = order_of(op="draw", plan={"steps": 1}, drawings=[drawing])
    refused = True
    while refused:  # Triton takes a moment to tell the model of what was cancelled
        [found] = await asyncio.gather(answers_to(hosting, one_step), return_exceptions=True)
        refused = isinstance(found, QueueFull)
    assert isinstance(found, list)


async def test_a_probe_does_not_wait_for_a_drawing(hosting: TritonServer) -> None:
    drawing = {"prompt": "a", "seed": 1}
    order = order_of(op="draw", plan={"steps": 900}, drawings=[drawing])
    drawn = asyncio.ensure_future(answers_to(hosting, order))
    assert await answers_to(hosting, order_of(op="probe")) == [{"type": "alive"}]
    assert not drawn.done()
    drawn.cancel()
    await asyncio.gather(drawn, return_exceptions=True)


BAD: dict[str, tuple[list[Tensor], str]] = {
    "no JSON": ([bytes_tensor("order", ["{"])], "order"),
    "no object": ([bytes_tensor("order", ["[]"])], "order"),
    "no op": (order_of(), "op"),
    "another op": (order_of(op="sing"), "op"),
    "no drawings": (order_of(op="draw"), "drawings"),
    "no prompt": (order_of(op="draw", drawings=[{}]), "drawings[0]"),
    "no plan": (order_of(op="draw", plan=[], drawings=[{}]), "plan"),
    "unknown field": (
        order_of(op="draw", plan={"depth": 3}, drawings=[{"prompt": "", "seed": 1}]),
        "plan.depth",
    ),
    "mode": (order_of(op="draw", plan={"mode": "dream"}, drawings=[{}]), "plan"),
    "missing picture": (
        order_of(
            op="draw", plan={"mode": "image"}, drawings=[{"prompt": "", "seed": 1, "initial": 0}]
        ),
        "drawings[0].initial",
    ),
    "broken picture": (
        [
            *order_of(
                op="draw",
                plan={"mode": "image"},
                drawings=[{"prompt": "", "seed": 1, "initial": 0}],
            ),
            bytes_tensor("pictures", [b"GIF89a"]),
        ],
        "drawings[0].initial",
    ),
    "size": (
        order_of(op="draw", plan={"width": 63}, drawings=[{"prompt": "", "seed": 1}]),
        "width",
    ),
    "latents": (
        [*order_of(op="decode"), tensor("latents", "FP32", np.zeros((1, 3, 8, 8)))],
        "latents",
    ),
    "text": (order_of(op="measure", text=3), "text"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_is_wrong_in_an_order_is_told(hosting: TritonServer, what: str) -> None:
    inputs, field = BAD[what]
    with pytest.raises(InvalidArgument) as caught:
        await answers_to(hosting, inputs)
    assert caught.value.field == field


async def test_another_number_type_is_refused(hosting: TritonServer) -> None:
    triton = Triton(TritonSettings(endpoints=(hosting.address,), manage_models=False))
    spec = ImageModelSpec(NAME, "1", Path(), "float16")
    with pytest.raises(FailedPrecondition, match="float16"):
        await TritonLoader(triton).load(spec, lambda _share: None)
    await triton.close()
