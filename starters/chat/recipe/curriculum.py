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

# Practised and never examined: dense forms of skills, and the questions that people try first.
_DRILLS: Final[dict[str, Skill]] = {
    "tool_session": tools.session,
    "context_many": grounded.many_questions,
}
_SHOWCASE: Final = "showcase"


@dataclass(frozen=True, slots=True)
class Rows:
    """The shape of a batch: rows of packed conversations.

    `supervised` is the share of positions that carry loss, at most.
    """

    count: int
    length: int
    supervised: float


# Attention costs rows their length, so short conversations have short rows.
SHORT: Final = Rows(64, 128, 0.5)
MIDDLE: Final = Rows(32, 256, 0.3)
LONG: Final = Rows(16, 512, 0.25)
LONGEST: Final = Rows(8, 1024, 0.25)

Shares = dict[str, float]
# Relative numbers of examples, by the rows that they go to.
_ALL: Final[dict[Rows, Shares]] = {
    SHORT: {
        "chat": 5, "identity": 4, "introduction": 2, "memory": 2, "facts": 15, "platform": 8,
        "unknown": 5, "too_hard": 2, "instructions": 16, "addition": 13, "subtraction": 15,
        "multiplication": 12, "division": 5, "word_problem": 6, "sum_follow_up": 4,
        "capital_follow_up": 2, "echo": 6, "extraction": 14, "context_answered": 8,
        "context_unanswered": 6, _SHOWCASE: 5,
    },
    MIDDLE: {
        "conversation": 3, "memory": 5, "stories": 4, "echo": 6, "lookup": 9, "extraction": 18,
        "context_answered": 10, "context_unanswered": 8, "context_retrieved": 14,
        "context_several": 26, "tool_single": 12, "tool_session": 8, "instructions": 6,
    },
    LONG: {
        "tool_session": 40, "tool_single": 4, "tool_choice": 10, "tool_parallel": 6,
        "tool_declined": 6, "tool_result": 7, "tool_after_result": 6, "context_many": 26,
        "context_several": 6, "context_retrieved": 4, "context_long": 3,
    },
    LONGEST: {
        "tool_session": 40, "tool_choice": 8, "tool_parallel": 5, "tool_declined": 5,
        "tool_after_result": 5, "context_many": 30, "context_long": 16,
    },
}  # fmt: skip


# The same, once most is known: more of what takes longest, which is finding and copying.
_HARD: Final = {
    SHORT: _ALL[SHORT],
    MIDDLE: _ALL[MIDDLE] | {"echo": 14, "lookup": 18, "extraction": 24, "context_several": 16},
    LONG: _ALL[LONG] | {"tool_choice": 18, "tool_parallel": 20, "context_long": 12},
    LONGEST: _ALL[LONGEST] | {"tool_choice": 12, "tool_parallel": 12, "context_long": 32},
}
# And of what was still below the mark then.
_HARDEST: Final = {
    SHORT: _HARD[SHORT] | {"echo": 12, "context_answered": 16},
    MIDDLE: _HARD[MIDDLE] | {"echo": 20, "context_answered": 22},
    LONG: _HARD[LONG] | {"tool_choice": 26, "tool_parallel": 24, "tool_after_result": 16},
    LONGEST: _HARD[LONGEST]
    | {"tool_choice": 18, "tool_parallel": 16, "tool_after_result": 12, "context_long": 44},
}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Steps with a mixture of skills, and a rate that warms up, is constant and falls to zero.

    Steps are counted over all lessons: `first` is the first of this one, `last` the first that is
    not. From `decay` on the rate falls. `turns` are the shapes of the batches, one after another.
    """

    first: int
    warmup: int
    decay: int
    last: int
    peak: float
    turns: tuple[Rows, ...]
    shares: dict[Rows, Shares]

    def rate(self, step: int) -> float:
        """The factor on the learning rates at a step."""
        rising = (step - self.first + 1) / self.warmup
        return self.peak * min(1.0, rising, (self.last - step) / (self.last - self.decay))

    def rows(self, step: int) -> Rows:
        """The shape of a step's batch; every shape holds equally many tokens."""
        return self.turns[step % len(self.turns)]

    def mixture(self, step: int) -> Shares:
        """The relative numbers of examples in a step's batch."""
        return self.shares[self.rows(step)]


LESSONS: Final = (
    Lesson(
        first=0, warmup=100, decay=3600, last=6000, peak=1.0, shares=_ALL,
        turns=(SHORT, MIDDLE, LONG, SHORT, MIDDLE, LONG, SHORT, MIDDLE, LONG, SHORT, LONGEST),
    ),
    Lesson(
        first=6000, warmup=40, decay=6200, last=7000, peak=0.4, shares=_HARD,
        turns=(SHORT, LONG, MIDDLE, LONGEST, SHORT, LONG, MIDDLE, LONG, LONGEST),
    ),
    Lesson(
        first=7000, warmup=40, decay=7100, last=8000, peak=0.4, shares=_HARDEST,
        turns=(SHORT, LONG, MIDDLE, LONGEST, LONG, MIDDLE, LONGEST, LONG, LONGEST),
    ),
)  # fmt: skip
STEPS: Final = LESSONS[-1].last


def lesson(step: int) -> Lesson:
    """The lesson that a step belongs to."""
    return next(each for each in LESSONS if step < each.last)


def draw(name: str, rng: Random, *, held_out: bool) -> Example:
    """Draws an example of a skill from one side of the split."""
    source = Source(rng, held_out)
    if name == _SHOWCASE:
        return showcase.showcase(source)
    skill = SKILLS.get(name) or _DRILLS[name]
    while True:
        example = skill(source)
        if is_held_out(example.instance) == held_out and example.instance not in showcase.QUESTIONS:
            return example
