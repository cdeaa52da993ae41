"""The echo engine, a step at a time: each step waits until a test lets it go."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from services.image.engine import Drawing, Drawn, ImageModelSpec, Look, Plan, Stage, Watch
from services.image.engines.echo_engine import EchoModel, EchoSettings


class GatedModel(EchoModel):
    """Draws as the echo engine does, and remembers what it drew together."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        super().__init__(settings or EchoSettings(width=64, height=64))
        self.passes: list[list[int]] = []
        """Seeds of the drawings of each pass."""
        self._steps = threading.Semaphore(0)
        self._opened = False

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        self.passes.append([drawing.seed for drawing in drawings])

        def gated(stage: Stage, look: Look) -> bool:
            if not self._opened:
                self._steps.acquire()
            return watch(stage, look)

        return await super().draw(plan, drawings, gated)

    def step(self, count: int = 1) -> None:
        """Lets so many steps go."""
        self._steps.release(count)

    def open(self) -> None:
        """Lets all steps go from now on."""
        self._opened = True
        self._steps.release()

    async def close(self) -> None:
        self.open()
        await super().close()


class GatedLoader:
    """Makes gated models."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings
        self.made: list[GatedModel] = []

    async def load(self, spec: ImageModelSpec, progress: Callable[[float], None]) -> GatedModel:
        model = GatedModel(self._settings)
        self.made.append(model)
        return model


async def until(condition: Callable[[], object]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - engines tell how it is, not when it changes
            await asyncio.sleep(0.001)
