"""How many steps a plan takes: the same on every engine."""

from services.image.engine import HiresPlan, Mode, Plan


def step_count(plan: Plan) -> int:
    """Denoising steps over both passes."""
    return first_steps(plan) + (second_steps(plan.hires) if plan.hires is not None else 0)


def first_steps(plan: Plan) -> int:
    """Denoising steps of the first pass."""
    if plan.mode is Mode.TEXT:
        return plan.steps
    return _share(plan.steps, plan.denoising_strength)


def second_steps(hires: HiresPlan) -> int:
    """Denoising steps of the second pass."""
    return max(1, _share(hires.steps, hires.denoising_strength))


def _share(steps: int, strength: float) -> int:
    # A strength arrives as a 32-bit float: 0.3 of 10 steps are 3, not what 2.9999… rounds down to.
    return max(1, int(steps * strength + 1e-4)) if strength > 0 else 0
