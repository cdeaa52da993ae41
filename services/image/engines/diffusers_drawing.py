"""Draws one batch, in one pass or two."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from services.errors import Internal
from services.image.engine import Drawing, Drawn, Look, Plan, Stage, Watch
from services.image.engines.device_thread import Presence
from services.image.engines.diffusers_families import Words
from services.image.engines.diffusers_machine import Coding, Machine
from services.image.engines.diffusers_schedules import Solver, build, explicit
from services.image.engines.diffusers_starts import Generators, Start, Starts
from services.image.engines.diffusers_walk import Walk
from services.image.engines.diffusers_watching import Watching
from services.image.engines.plans import first_steps, second_steps, step_count


class GivenUp(Exception):  # noqa: N818  (it is no error)
    """The watch wants no more of a batch."""


class Run:
    """One batch on its way."""

    def __init__(
        self,
        machine: Machine,
        plan: Plan,
        drawings: Sequence[Drawing],
        watch: Watch,
        presence: Presence,
    ) -> None:
        self._machine = machine
        self._plan = plan
        self._drawings = drawings
        self._watch = watch
        self._presence = presence
        self._coding = Coding(machine)
        self._starts = Starts(machine, self._coding, drawings)
        self._total = step_count(plan)
        self._done = 0
        self._before = 0

    def draw(self) -> Drawn:
        """Draws all of it.

        Raises:
            GivenUp: the watch said so.
        """
        began = time.perf_counter()
        plan = self._plan
        around = self._machine.meeting_edges() if plan.tiling else contextlib.nullcontext()
        with torch.inference_mode(), around:
            generators = self._generators()
            start = self._starts.first(plan, generators)
            latents = self._pass(plan, start, generators, first_steps(plan), second=False)
            if (hires := plan.hires) is not None:
                larger = replace(
                    plan,
                    width=hires.width,
                    height=hires.height,
                    steps=hires.steps,
                    cfg_scale=hires.cfg_scale,
                    sampler=hires.sampler,
                    scheduler=hires.scheduler,
                )
                generators = self._generators()
                start = self._starts.second(latents, hires.upscaler, larger, generators)
                latents = self._pass(larger, start, generators, second_steps(hires), second=True)
            if not bool(latents.isfinite().all()):
                raise Internal("The picture is not made of finite numbers: deploy it in float32.")
            pictures = [self._coding.decode(row[None]) for row in latents]
        coding_s = self._coding.seconds
        return Drawn(pictures, time.perf_counter() - began - coding_s, coding_s)

    def evaluate(self) -> None:
        """Runs the denoiser once on what a batch from text begins with."""
        with torch.inference_mode(), contextlib.suppress(GivenUp):
            generators = self._generators()
            start = self._starts.first(self._plan, generators)
            self._pass(self._plan, start, generators, self._plan.steps, second=False)

    def _generators(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(drawing.seed) for drawing in self._drawings]

    def _pass(
        self, plan: Plan, start: Start, generators: Generators, steps: int, *, second: bool
    ) -> Tensor:
        """Latents as a pass of so many steps leaves them."""
        if start.picture is not None and steps == 0:
            return start.picture
        machine, pipelines = self._machine, self._machine.pipelines
        solver = machine.solvers[plan.sampler]
        scheduler = build(solver, plan.scheduler, machine.own, plan.steps)
        walk = Walk(scheduler, solver.form, _step_arguments(plan, solver, generators))
        watching = Watching(machine, self._coding, walk, plan, start, steps, self._told)
        pipeline = pipelines.text if start.picture is None else pipelines.image
        pipeline.scheduler = scheduler
        prompts = [
            Words(d.hires_prompt, d.hires_negative_prompt, d.weighs_words)
            if second
            else Words(d.prompt, d.negative_prompt, d.weighs_words)
            for d in self._drawings
        ]
        arguments: dict[str, Any] = {
            **pipelines.conditions(prompts, plan),
            **pipelines.guidance(plan.cfg_scale),
            **explicit(solver, plan.scheduler, plan.steps, machine.own),
        }
        if start.picture is None:
            arguments["latents"] = watching.noise
        else:
            pipeline.walk, pipeline.skipped = walk, plan.steps - steps
            pipeline.picture, pipeline.noise = watching.begun, watching.noise
            # Only its size is looked at: what it begins with is given above.
            arguments["image"] = torch.zeros(1, 3, plan.height, plan.width)
            arguments["strength"] = 1.0
        if start.picture is None or pipelines.family.flow:
            arguments |= {"width": plan.width, "height": plan.height}
        count, mode = len(self._drawings), "tiling" if plan.tiling else ""
        with machine.rows.run(count, self._presence.check, start.beside, mode=mode):
            latents = pipeline(
                **arguments,
                num_inference_steps=plan.steps,
                generator=list(generators),
                output_type="latent",
                return_dict=False,
                callback_on_step_end=watching,
            )[0]
        self._before += steps
        return machine.unpack(latents, plan.width, plan.height).float()

    def _told(self, done: int, look: Look) -> None:
        """Has the watch decide, after each step."""
        self._presence.check()
        done += self._before
        if done > self._done:
            self._done = done
            if not self._watch(Stage(done, self._total), look):
                raise GivenUp


def _step_arguments(plan: Plan, solver: Solver, generators: Generators) -> dict[str, Any]:
    """What a scheduler's steps take beside what the pipelines give them."""
    tuning, arguments = plan.tuning, dict[str, Any]()
    if "eta" in solver.tuning:
        # Said in any case, because the pipelines say 0 to all that take one.
        arguments["eta"] = float(solver.adds_noise) if tuning.eta is None else tuning.eta
    if "s_noise" in solver.tuning:
        arguments["s_noise"] = tuning.s_noise
    if "s_churn" in solver.tuning:
        arguments |= {
            "s_churn": tuning.s_churn,
            "s_tmin": tuning.s_tmin,
            "s_tmax": tuning.s_tmax or float("inf"),
        }
    if solver.adds_noise or "s_churn" in solver.tuning:
        arguments["generator"] = list(generators)
    return arguments
