"""The skills, their shares of the training data, and the schedule of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from starters.chat.recipe.conversation import Example
from starters.chat.recipe.skills import (
    arithmetic,
    copying,
    extraction,
    facts,
    grounded,
    instructions,
    memory,
    platform,
    showcase,
    smalltalk,
    stories,
    tools,
    unknown,
)
from starters.chat.recipe.source import Source, is_held_out

SEED: Final = 20_260_101
Skill = Callable[[Source], Example]

SKILLS: Final[dict[str, Skill]] = {
    "chat": smalltalk.chat,
    "identity": smalltalk.identity,
    "introduction": smalltalk.introduction,
    "conversation": smalltalk.conversation,
    "memory": memory.memory,
    "capital_follow_up": memory.capital_follow_up,
    "facts": facts.fact,
    "platform": platform.platform,
    "unknown": unknown.unknown,
    "too_hard": unknown.too_hard,
    "stories": stories.any_story,
    "instructions": instructions.order,
    "addition": arithmetic.addition,
    "subtraction": arithmetic.subtraction,
    "multiplication": arithmetic.multiplication,
    "division": arithmetic.division,
    "word_problem": arithmetic.word_problem,
    "sum_follow_up": arithmetic.follow_up,
    "context_answered": grounded.answered,
    "context_unanswered": grounded.unanswered,
    "context_retrieved": grounded.retrieved,
    "context_long": grounded.long_context,
    "context_several": grounded.several_questions,
    "echo": copying.echo,
    "lookup": copying.lookup,
    "extraction": extraction.extraction,
    "tool_single": tools.single,
    "tool_choice": tools.choice,
    "tool_parallel": tools.parallel,
    "tool_declined": tools.declined,
    "tool_result": tools.result,
    "tool_after_result": tools.after_result,
}

SHOWCASE: Final = "showcase"
# Relative numbers of examples. Copying from the prompt is the hardest skill and gets the most.
_SHARES: Final[dict[str, float]] = {
    "chat": 3, "identity": 3, "introduction": 2, "conversation": 2, "memory": 4,
    "capital_follow_up": 1.5, "facts": 7, "platform": 4, "unknown": 4, "too_hard": 1.5,
    "stories": 3, "instructions": 6, "addition": 5, "subtraction": 5, "multiplication": 4,
    "division": 1.5, "word_problem": 2, "sum_follow_up": 1.5, "context_answered": 16,
    "context_unanswered": 6, "context_retrieved": 9, "context_long": 0, "extraction": 9,
    "tool_single": 8, "tool_choice": 8, "tool_parallel": 1.5, "tool_declined": 2.5,
    "tool_result": 6, "tool_after_result": 1.5,
}  # fmt: skip
# Batches of longer rows hold what short rows cannot.
_LONG: Final[dict[str, float]] = {
    "context_long": 12, "tool_choice": 20, "tool_result": 9, "tool_after_result": 6,
    "tool_parallel": 4, "tool_declined": 6,
}  # fmt: skip
# From a step on, these shares replace the first ones: once the forms of the answers are known,
# plain copying is practised alone, and then kept up.
_COPYING: Final = {"echo": 30, "lookup": 20, "context_several": 20, "memory": 8, "introduction": 4}
_KEEPING: Final = {"echo": 3, "lookup": 4, "context_several": 10}
_LEARNING: Final = {
    **_KEEPING, "addition": 9, "subtraction": 9, "multiplication": 7, "division": 3,
    "facts": 12, "platform": 8, "word_problem": 3, "echo": 2, "lookup": 2,
}  # fmt: skip
_FINISHING: Final = {
    **_LEARNING, "addition": 30, "subtraction": 30, "multiplication": 20, "division": 9,
    "word_problem": 8, "sum_follow_up": 5, "facts": 22, "platform": 14, "chat": 7, "identity": 5,
    "instructions": 9, "extraction": 18, "context_answered": 20, "context_unanswered": 10,
    "context_retrieved": 12, "context_several": 9, "echo": 1, "lookup": 1, "stories": 2,
    "tool_parallel": 0.5, "tool_after_result": 1,
}  # fmt: skip
_LAST: Final = {
    **_FINISHING, "addition": 20, "subtraction": 22, "multiplication": 15, "division": 6,
    "word_problem": 6, "extraction": 24, "context_answered": 26, "context_unanswered": 6,
    "context_retrieved": 18, "context_several": 10, "tool_single": 14, "tool_choice": 14,
    "tool_result": 9, "echo": 0.5, "lookup": 0.5,
}  # fmt: skip
# A second, short decay for what the first one left below the mark.
_REPAIR: Final = {
    **_LAST, "context_answered": 32, "context_unanswered": 14, "context_retrieved": 24,
    "context_several": 12, "tool_single": 18, "tool_choice": 24, "tool_result": 15,
    "tool_after_result": 3, "tool_declined": 5, "addition": 8, "subtraction": 10,
    "multiplication": 8, "division": 2, "word_problem": 3, "facts": 12, "platform": 7,
    "instructions": 10, SHOWCASE: 14,
}  # fmt: skip
_PHASES: Final[tuple[tuple[int, dict[str, float]], ...]] = (
    (0, {}), (400, _COPYING), (1000, _KEEPING), (1200, _LEARNING), (2200, _FINISHING),
    (2800, _LAST), (4000, _REPAIR),
)  # fmt: skip


def shares(step: int, *, long: bool) -> dict[str, float]:
    """The relative numbers of examples at a step."""
    phase = [changes for start, changes in _PHASES if start <= step][-1]
    return _SHARES | (_LONG if long else {}) | phase


@dataclass(frozen=True, slots=True)
class Rows:
    """The shape of a batch: rows of packed conversations."""

    count: int
    length: int


SHORT: Final = Rows(32, 256)
MIDDLE: Final = Rows(16, 512)
LONG: Final = Rows(8, 1024)


def rows_of(step: int) -> Rows:
    """The shape of a step's batch: most are short, one in three is not."""
    if step % 15 == 14:
        return LONG
    return MIDDLE if step % 3 == 2 else SHORT


@dataclass(frozen=True, slots=True)
class Schedule:
    """Warm-up, a constant rate, and decays to zero: each from a step, from a rate, to a step."""

    warmup: int
    decays: tuple[tuple[int, float, int], ...]

    @property
    def total(self) -> int:
        """The number of steps."""
        return self.decays[-1][2]

    def rate(self, step: int) -> float:
        """The factor on the learning rates at a step."""
        for start, peak, end in self.decays:
            if start <= step < end:
                return peak * (end - step) / (end - start)
        return min(1.0, (step + 1) / self.warmup)


SCHEDULE: Final = Schedule(warmup=100, decays=((1900, 1.0, 3950), (3950, 0.3, 4250)))


def draw(name: str, rng: Random, *, held_out: bool) -> Example:
    """Draws an example of a skill from one side of the split."""
    source = Source(rng, held_out)
    if name == SHOWCASE:
        return showcase.showcase(source)
    while True:
        example = SKILLS[name](source)
        if is_held_out(example.instance) == held_out and example.instance not in showcase.QUESTIONS:
            return example
