"""Examines the exported model on combinations that training never drew.

python -m starters.image.recipe.exam
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from starters.computing import fast_dtype
from starters.image.recipe import judging
from starters.image.recipe.colours import SPELLINGS
from starters.image.recipe.curriculum import SEED, draw
from starters.image.recipe.drawing import render
from starters.image.recipe.judging import Judge
from starters.image.recipe.paths import MODEL
from starters.image.recipe.scenes.figures import SIZES
from starters.image.recipe.scenes.scene import Scene

STEPS: Final = 20
GUIDANCE: Final = 3.0
_BATCH: Final = 4
_WEAK: Final = 0.3
_STRONG: Final = 0.9


@dataclass(frozen=True, slots=True)
class Skill:
    """A part of the exam: scenes of a kind, and what their pictures are judged by."""

    kind: str
    judges: dict[str, Judge]
    asked: Callable[[Scene], bool]
    held_out: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """How often pictures of a skill were right in one respect."""

    skill: str
    respect: str
    asked: int
    right: int

    @property
    def share(self) -> float:
        """The share of right pictures."""
        return self.right / self.asked


def plain(scene: Scene) -> bool:
    """Whether the check can see all that the caption says, and the caption says all that is
    checked: no shades, no gradient, no figure without its colour."""
    colours = [*(figure.colour for figure in scene.figures), scene.background or " "]
    return all(
        " " not in colour
        and any(spelling in scene.caption for spelling in SPELLINGS.get(colour, (colour,)))
        for colour in colours
    )


def _middling(scene: Scene) -> bool:
    low, high = SIZES[""]
    return low <= scene.figures[0].radius <= high


def _placed(scene: Scene) -> bool:
    figure = scene.figures[0]
    return plain(scene) and max(abs(figure.x - 0.5), abs(figure.y - 0.5)) > 0.15


def _sized(scene: Scene) -> bool:
    low, high = SIZES[""]
    radius = scene.figures[0].radius
    return plain(scene) and not _placed(scene) and not (low * 0.6 < radius < high * 1.1)


SKILLS: Final[dict[str, Skill]] = {
    "one": Skill(
        "one",
        {"colour and shape": judging.figures, "background": judging.background},
        lambda scene: plain(scene) and _middling(scene),
    ),
    "place": Skill("one", {"place": judging.place, "colour and shape": judging.figures}, _placed),
    "size": Skill("one", {"size": judging.size, "colour and shape": judging.figures}, _sized),
    "two": Skill(
        "two",
        {
            "both figures": judging.figures,
            "and their order": judging.order,
            "background": judging.background,
        },
        plain,
    ),
    "several": Skill("several", {"count": judging.count, "all figures": judging.figures}, plain),
    "landscape": Skill(
        "landscape", {"time of day": judging.moment}, lambda _: True, held_out=False
    ),
}
"""The skills of text-to-image. Captions of landscapes are few and not held out."""


def scenes(skill: Skill, amount: int) -> list[Scene]:
    """Scenes for the exam, each of a combination that training never drew."""
    rng, made = Random(f"{SEED} exam {skill.kind}"), list[Scene]()
    while len(made) < amount:
        scene = draw(skill.kind, rng, held_out=skill.held_out)
        if skill.asked(scene):
            made.append(scene)
    return made


def pictures(pipeline: Any, scenes: list[Scene], **options: Any) -> Iterator[Image.Image]:
    """What the model draws for the captions of scenes; every picture has its own seed."""
    pipeline.set_progress_bar_config(disable=True)
    begins = options.pop("image", None)
    for start in range(0, len(scenes), _BATCH):
        some = scenes[start : start + _BATCH]
        if begins is not None:
            options["image"] = begins[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(SEED + start + i) for i in range(len(some))]
        yield from pipeline(
            [scene.caption for scene in some], num_inference_steps=STEPS, generator=seeds, **options
        ).images


def examine(pipeline: Any, name: str, amount: int, guidance: float) -> list[Result]:
    """Examines one skill of text-to-image."""
    skill = SKILLS[name]
    asked = scenes(skill, amount)
    made = list(pictures(pipeline, asked, guidance_scale=guidance))
    return [
        Result(name, respect, amount, sum(map(judge, asked, made)))
        for respect, judge in skill.judges.items()
    ]


def reworked(pipeline: Any, amount: int, guidance: float) -> list[Result]:
    """Examines image-to-image: a picture of one scene is worked over with another's caption."""
    both = scenes(SKILLS["one"], 2 * amount)
    given, asked = both[:amount], both[amount:]
    begins = [render(scene.drawing, 512) for scene in given]
    worker = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    results: list[Result] = []
    for strength, judges in (
        (_WEAK, {"layout kept": judging.layout, "colour kept": judging.colour}),
        (_STRONG, {"prompt followed": judging.figures}),
    ):
        made = list(
            pictures(worker, asked, image=begins, strength=strength, guidance_scale=guidance)
        )
        wanted = given if strength == _WEAK else asked
        results += [
            Result(f"image to image, {strength}", respect, amount, sum(map(judge, wanted, made)))
            for respect, judge in judges.items()
        ]
    return results


def table(results: list[Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| Skill | In respect of | Pictures | Right | Share |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {r.skill} | {r.respect} | {r.asked} | {r.right} | {r.share:.1%} |" for r in results
    ]
    return "\n".join(lines)


def load(folder: Path) -> StableDiffusionPipeline:
    """The exported pipeline, in bf16 where the processor calculates in it."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder,
        use_safetensors=True,
        safety_checker=None,
        dtype=fast_dtype(),
    )
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    return pipeline


def main() -> None:
    """Runs the exam and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=100, help="pictures a skill")
    parser.add_argument("--skills", nargs="*", default=[*SKILLS, "image to image"])
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mark", type=float, default=0.9, help="what one figure must reach")
    parser.add_argument("--strict", action="store_true", help="fail where it does not")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    pipeline = load(chosen.model)
    results: list[Result] = []
    for skill in chosen.skills:
        if skill in SKILLS:
            results += examine(pipeline, skill, chosen.count, chosen.guidance)
        else:
            results += reworked(pipeline, chosen.count, chosen.guidance)
        print(results[-1], flush=True)
    print(table(results))
    missed = [r for r in results if r.skill == "one" and r.share < chosen.mark]
    if missed:
        print(f"\nBelow {chosen.mark:.0%}: {', '.join(r.respect for r in missed)}")
        if chosen.strict:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
