"""What a picture must show to be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from starters.image.recipe.looking import Seen, View, seen
from starters.image.recipe.scenes.figures import PLACES
from starters.image.recipe.scenes.landscapes import SKIES
from starters.image.recipe.scenes.scene import Figure, Scene

Judge = Callable[[Scene, Image.Image], bool]

_APART: Final = 0.1
_SIZE_OFF: Final = 0.3
_PLACE_OFF: Final = 0.06


def figures(scene: Scene, image: Image.Image) -> bool:
    """The scene's shapes in their colours, and nothing else."""
    return _same_figures(scene, seen(image))


def background(scene: Scene, image: Image.Image) -> bool:
    """The scene's background."""
    return seen(image).background == scene.background


def place(scene: Scene, image: Image.Image) -> bool:
    """One figure, in the named ninth of the picture."""
    found = seen(image).figures
    return len(found) == 1 and _ninth(found[0]) == _ninth(scene.figures[0])


def size(scene: Scene, image: Image.Image) -> bool:
    """One figure of about the named size."""
    found = seen(image).figures
    return len(found) == 1 and abs(found[0].radius / scene.figures[0].radius - 1) < _SIZE_OFF


def count(scene: Scene, image: Image.Image) -> bool:
    """As many figures as were asked for, whatever they are."""
    return len(seen(image).figures) == len(scene.figures)


def order(scene: Scene, image: Image.Image) -> bool:
    """Both figures, each on its side of the other."""
    view = seen(image)
    if not _same_figures(scene, view):
        return False
    first, second = scene.figures
    one, other = view.figures
    if (one.colour, one.shape) != (first.colour, first.shape):
        one, other = other, one
    across = (second.x - first.x, other.x - one.x)
    down = (second.y - first.y, other.y - one.y)
    return all(abs(wanted) < _APART or wanted * found > 0 for wanted, found in (across, down))


def moment(scene: Scene, image: Image.Image) -> bool:
    """The sky of the named time of day."""
    sky = np.asarray(image.convert("RGB"), dtype=np.float32)[: image.height // 12].mean(axis=(0, 1))
    colours = {name: np.array(top, dtype=np.float32) for name, (top, _, _) in SKIES.items()}
    return min(colours, key=lambda name: float(abs(colours[name] - sky).sum())) == scene.moment


def layout(scene: Scene, image: Image.Image) -> bool:
    """The scene's one figure where it was and as big, whatever its shape and colour are now."""
    found = _biggest(seen(image))
    was = scene.figures[0]
    return (
        found is not None
        and abs(found.x - was.x) < _PLACE_OFF
        and abs(found.y - was.y) < _PLACE_OFF
        and abs(found.radius / was.radius - 1) < _SIZE_OFF
    )


def colour(scene: Scene, image: Image.Image) -> bool:
    """The scene's one figure in the colour that it had."""
    found = _biggest(seen(image))
    return found is not None and found.colour == scene.figures[0].colour


def _same_figures(scene: Scene, view: View) -> bool:
    return sorted((figure.colour, figure.shape) for figure in scene.figures) == sorted(
        (figure.colour, figure.shape) for figure in view.figures
    )


def _biggest(view: View) -> Seen | None:
    return max(view.figures, key=lambda figure: figure.radius, default=None)


def _ninth(figure: Figure | Seen) -> str:
    return min(
        PLACES,
        key=lambda name: (PLACES[name][0] - figure.x) ** 2 + (PLACES[name][1] - figure.y) ** 2,
    )
