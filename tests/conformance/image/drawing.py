"""Plans, drawings and watches for the tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from services.image.engine import Drawing, ImageModel, Look, Mode, Plan, Stage
from tests.conformance.image.tiny_pipelines import SIDE


def plan_for(model: ImageModel, **changes: Any) -> Plan:
    plan = Plan(SIDE, SIDE, 3, 5.0, model.info.default_sampler, "automatic")
    return replace(plan, **changes)


def drawing_of(seed: int = 1, **changes: Any) -> Drawing:
    given: dict[str, Any] = {
        "prompt": f"a circle {seed}",
        "negative_prompt": "",
        "hires_prompt": "a larger circle",
        **changes,
    }
    return Drawing(seed=seed, **given)


def initial(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    left = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (left, left.rotate(180), Image.new("L", size, 90)))


def from_image(model: ImageModel, mode: Mode = Mode.IMAGE, **changes: Any) -> Plan:
    return plan_for(model, mode=mode, denoising_strength=0.7, **changes)


def mask(value: int) -> Image.Image:
    return Image.new("L", (SIDE, SIDE), value)


class Notes:
    """A watch that goes on and remembers."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stages: list[Stage] = []
        self.previews: list[Image.Image] = []
        self.pictures: list[Image.Image] = []
        self._stop_after = stop_after

    def __call__(self, stage: Stage, look: Look) -> bool:
        self.stages.append(stage)
        self.previews.append(look.preview(0))
        self.pictures.append(look.picture(0))
        return len(self.stages) != self._stop_after


def go_on(_stage: Stage, _look: Look) -> bool:
    return True


async def draw(model: ImageModel, plan: Plan, drawings: Sequence[Drawing]) -> list[Image.Image]:
    assert model.refusal(plan) is None
    drawn = await model.draw(plan, drawings, go_on)
    assert drawn is not None
    assert drawn.denoise_s >= 0
    assert drawn.decode_s >= 0
    assert len(drawn.pictures) == len(drawings)
    return list(drawn.pictures)


async def draw_one(model: ImageModel, plan: Plan, drawing: Drawing) -> bytes:
    return (await draw(model, plan, [drawing]))[0].tobytes()
