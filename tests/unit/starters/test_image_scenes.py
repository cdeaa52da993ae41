"""The scenes of the starter image model: deterministic, apart from the exam, drawn as told."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from starters.image.recipe import judging
from starters.image.recipe.colours import COLOURS, nearest, varied
from starters.image.recipe.curriculum import KINDS, draw, sampled
from starters.image.recipe.drawing import Drawing, Gradient, Point, render
from starters.image.recipe.exam import SKILLS, plain, scenes
from starters.image.recipe.looking import seen
from starters.image.recipe.scenes.figures import PLACES
from starters.image.recipe.scenes.scene import Scene, combinations, is_held_out
from starters.image.recipe.shapes import SHAPES, placed

EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def drawn(kind: str, count: int = 60, *, held_out: bool = False) -> list[Scene]:
    rng = Random(f"test {kind}")
    return [draw(kind, rng, held_out=held_out) for _ in range(count)]


@EVERY_KIND
def test_the_same_seed_makes_the_same_scenes(kind: str) -> None:
    assert drawn(kind, 10) == drawn(kind, 10)


@EVERY_KIND
def test_captions_are_clean_english(kind: str) -> None:
    for scene in drawn(kind):
        assert scene.caption == scene.caption.strip()
        assert "  " not in scene.caption
        assert " ," not in scene.caption
        assert not any(f" a {vowel}" in f" {scene.caption}" for vowel in "aeio")


@EVERY_KIND
def test_figures_stay_within_the_picture(kind: str) -> None:
    for scene in drawn(kind, 100):
        for figure in scene.figures:
            assert figure.radius <= figure.x <= 1 - figure.radius
            assert figure.radius <= figure.y <= 1 - figure.radius


def test_training_never_draws_what_the_exam_asks() -> None:
    rng = Random("training")
    trained = {
        combination
        for scene in (sampled(rng) for _ in range(4000))
        for combination in combinations(scene.figures, scene.background)
    }
    assert len(trained) > 1000
    assert not any(is_held_out(combination) for combination in trained)
    for skill in SKILLS.values():
        if skill.held_out:
            for scene in scenes(skill, 25):
                asked = combinations(scene.figures, scene.background)
                assert any(is_held_out(combination) for combination in asked)
                assert not trained.issuperset(asked)


@pytest.mark.parametrize("kind", ["one", "two", "three", "several"])
def test_the_check_is_right_about_drawn_scenes(kind: str) -> None:
    asked = [scene for scene in drawn(kind, 120) if plain(scene)]
    wrong = [
        scene.caption
        for scene in asked
        for image in [render(scene.drawing, 256)]
        if not judging.figures(scene, image) or not judging.background(scene, image)
    ]
    assert len(asked) > 40
    assert len(wrong) <= len(asked) // 100, wrong


@pytest.mark.parametrize("name", SKILLS)
def test_every_judge_accepts_the_true_picture_and_refuses_an_empty_one(name: str) -> None:
    skill = SKILLS[name]
    for scene in scenes(skill, 12):
        for respect, judge in skill.judges.items():
            assert judge(scene, render(scene.drawing, 256)), (scene.caption, respect)
            if respect not in ("background", "time of day"):
                assert not judge(scene, render(Drawing(scene.drawing.background), 256))


def test_judges_refuse_the_picture_of_another_scene() -> None:
    asked = scenes(SKILLS["one"], 40)
    for scene, other in itertools.pairwise(asked):
        same = [(f.colour, f.shape) for f in scene.figures] == [
            (f.colour, f.shape) for f in other.figures
        ]
        assert judging.figures(scene, render(other.drawing, 256)) == same


def test_order_is_refused_when_figures_have_changed_places() -> None:
    for scene in scenes(SKILLS["two"], 20):
        image = render(scene.drawing, 256)
        first, second = scene.figures
        across = abs(first.x - second.x) > abs(first.y - second.y)
        turned = image.rotate(180) if across else image.transpose(1)  # top to bottom
        if first.shape == second.shape and {first.shape} <= {"circle", "square", "ring"}:
            assert judging.figures(scene, turned)
            assert not judging.order(scene, turned)


def test_layout_is_refused_when_the_figure_moved() -> None:
    blue, red = COLOURS["blue"], COLOURS["red"]
    (scene, *_) = scenes(SKILLS["one"], 1)
    moved = Drawing.on(blue)
    moved.polygon(red, placed("circle", 0.25, 0.25, scene.figures[0].radius))
    stayed = Drawing.on(blue)
    figure = scene.figures[0]
    stayed.polygon(red, placed("circle", figure.x, figure.y, figure.radius))
    assert judging.layout(scene, render(stayed, 256))
    assert not judging.layout(scene, render(moved, 256))


@given(st.sampled_from(sorted(COLOURS)), st.integers())
def test_a_varied_colour_keeps_its_name(name: str, seed: int) -> None:
    assert nearest(varied(Random(seed), COLOURS[name])) == name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", PLACES)
def test_a_shape_is_seen_where_it_was_put(shape: str, place: str) -> None:
    x, y = PLACES[place]
    drawing = Drawing.on(COLOURS["white"])
    drawing.polygon(COLOURS["purple"], placed(shape, x, y, 0.15))
    (figure,) = seen(render(drawing, 256)).figures
    assert (figure.colour, figure.shape) == ("purple", shape)
    assert figure.x == pytest.approx(x, abs=0.05)
    assert figure.y == pytest.approx(y, abs=0.05)


def wobbling(points: tuple[Point, ...], rng: Random) -> list[Point]:
    """An outline that waves and has a bump, each up to a tenth of the shape's half side."""
    corners = np.array([*points, points[0]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    turn = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    fine = np.stack([np.interp(turn / 2 / np.pi * along[-1], along, part) for part in corners.T], 1)
    ahead = np.roll(fine, -1, axis=0) - np.roll(fine, 1, axis=0)
    out = np.stack([ahead[:, 1], -ahead[:, 0]], 1) / np.hypot(*ahead.T)[:, None]
    waves = (np.cos(k * turn + rng.uniform(0, 7)) for k in range(3, 16))
    bump = np.exp(-(((turn - rng.uniform(0, 2 * np.pi)) / 0.12) ** 2))
    moved = sum(waves) * 0.015 + bump * rng.uniform(-0.1, 0.2)
    return [(x, y) for x, y in (fine + out * moved[:, None]).tolist()]


def test_a_shape_is_known_by_a_wobbling_outline() -> None:
    rng, wrong = Random("wobbling"), list[tuple[str, str]]()
    for shape in SHAPES.keys() - {"ring"}:  # whose outline is two
        for _ in range(12):
            drawing = Drawing.on(COLOURS["white"])
            outline = wobbling(SHAPES[shape], rng)
            drawing.polygon(COLOURS["blue"], [(0.5 + x * 0.25, 0.5 + y * 0.25) for x, y in outline])
            biggest = max(seen(render(drawing, 256)).figures, key=lambda figure: figure.radius)
            if biggest.shape != shape:
                wrong.append((shape, biggest.shape))
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("size", [64, 200, 512])
def test_a_drawing_looks_alike_at_every_size(size: int) -> None:
    drawing = Drawing(Gradient(COLOURS["blue"], COLOURS["orange"]))
    drawing.ellipse(COLOURS["white"], 0.5, 0.5, 0.2, 0.2)
    image = render(drawing, size)
    assert image.size == (size, size)
    small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=int)
    other = np.asarray(render(drawing, 256).resize((8, 8), Image.Resampling.BOX), dtype=int)
    assert abs(small - other).max() < 12


def test_gradients_go_from_top_to_bottom_or_from_left_to_right() -> None:
    first, second = COLOURS["black"], COLOURS["white"]
    down = np.asarray(render(Drawing(Gradient(first, second)), 64), dtype=int)
    across = np.asarray(render(Drawing(Gradient(first, second, sideways=True)), 64), dtype=int)
    assert (down[-1] - down[0] > 200).all()
    assert (across[:, -1] - across[:, 0] > 200).all()
    assert (down[:, 0] == down[:, -1]).all()
