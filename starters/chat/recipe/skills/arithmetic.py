"""Sums with numbers of up to two digits, larger products in spelled steps."""

from __future__ import annotations

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, assistant, exchange, user
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.source import Source

_FRAMES = (
    "What is {}?",
    "what is {}",
    "{}",
    "{} =",
    "{} = ?",
    "Calculate {}.",
    "How much is {}?",
    "What's {}?",
    "Compute {}",
    "{}?",
    "Can you calculate {}?",
    "Please calculate {}.",
    "Solve {}",
    "Tell me what {} is.",
    "What does {} make?",
    "What is the result of {}?",
    "how much is {}",
    "What is {}? Answer with the sum.",
    "Work out {}.",
    "Do you know what {} is?",
)
_SPELLINGS = {
    "+": ("{} + {}", "{} + {}", "{}+{}", "{} plus {}"),
    "-": ("{} - {}", "{} - {}", "{}-{}", "{} minus {}"),
    "×": ("{} * {}", "{} × {}", "{}*{}", "{} times {}", "{} x {}", "{} multiplied by {}"),
    "÷": ("{} / {}", "{} ÷ {}", "{}/{}", "{} divided by {}"),
}


def solved(left: int, sign: str, right: int) -> str:
    """The sum written out; two digits are taken apart first."""
    if sign == "÷":
        return f"{left} ÷ {right} = {left // right}"
    if sign == "×":
        return f"{left} × {right} = {_product(left, right)}"
    tens, ones = right // 10 * 10, right % 10
    middle = left + tens if sign == "+" else left - tens
    result = left + right if sign == "+" else left - right
    if left < 10 or not tens or not ones:
        return f"{left} {sign} {right} = {result}"
    steps = f"{left} {sign} {tens} {sign} {ones} = {middle} {sign} {ones}"
    return f"{left} {sign} {right} = {steps} = {result}"


def _product(left: int, right: int) -> str:
    if left <= 12 and right <= 12:
        return str(left * right)
    big, small = max(left, right), min(left, right)
    tens, ones = big // 10 * 10, big % 10
    if not ones:
        return str(left * right)
    parts = f"{tens} × {small} + {ones} × {small}"
    return f"{parts} = {tens * small} + {ones * small} = {left * right}"


def _operands(source: Source, sign: str) -> tuple[int, int]:
    if sign in "+-":
        high = source.pick((9, 20, 99, 99, 99))
        left, right = source.integer(0, high), source.integer(0, source.pick((9, high)))
        return (left, right) if sign == "+" else (max(left, right), min(left, right))
    if sign == "÷":
        right = source.integer(1, 12)
        return right * source.integer(1, 12), right
    if source.chance(0.5):
        return source.integer(0, 12), source.integer(0, 12)
    pair = (source.integer(11, 99), source.integer(2, 9))
    return pair if source.chance(0.5) else (pair[1], pair[0])


def _spoken(source: Source, number: int) -> str:
    return words.NUMBER_WORDS[number] if number <= 20 and source.chance(0.04) else str(number)


def _example(source: Source, sign: str) -> Example:
    left, right = _operands(source, sign)
    spelled = source.pick(_SPELLINGS[sign]).format(_spoken(source, left), _spoken(source, right))
    asked = source.pick(_FRAMES).format(spelled)
    pair = (left, right) if sign in "-÷" else (min(left, right), max(left, right))
    example = exchange(
        asked,
        solved(left, sign, right) + ".",
        key=f"{sign} {pair}" if pair[1] > 12 or sign in "+-" else asked,
    )
    return with_style(source, example, 0.15)


def addition(source: Source) -> Example:
    """Adds two numbers below a hundred."""
    return _example(source, "+")


def subtraction(source: Source) -> Example:
    """Subtracts two numbers below a hundred; the result is never negative."""
    return _example(source, "-")


def multiplication(source: Source) -> Example:
    """The tables up to twelve, and two digits times one in steps."""
    return _example(source, "×")


def division(source: Source) -> Example:
    """Divisions that leave nothing, within the tables up to twelve."""
    return _example(source, "÷")


def word_problem(source: Source) -> Example:
    """A small story with a sum in it."""
    left, right = source.integer(2, 60), source.integer(1, 39)
    name, thing = source.name(), source.pick(words.NOUNS) + "s"
    if source.chance(0.5):
        sign = "+"
        told = source.pick(
            (
                "{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
                "I have {a} {t} and buy {b} more. How many {t} do I have?",
                "There are {a} {t} in a box and {b} {t} in another box. How many {t} are there?",
                "{n} finds {a} {t} and then {b} more {t}. How many is that?",
            )
        )
    else:
        sign, left = "-", left + right
        told = source.pick(
            (
                "{n} has {a} {t} and gives away {b}. How many {t} does {n} have left?",
                "I have {a} {t} and lose {b}. How many {t} are left?",
                "There are {a} {t} and {b} of them break. How many {t} are left?",
                "{n} had {a} {t} and sold {b} of them. How many are left?",
            )
        )
    asked = told.format(n=name, a=left, b=right, t=thing)
    return exchange(asked, solved(left, sign, right) + ".", key=f"{sign} {sorted((left, right))}")


def follow_up(source: Source) -> Example:
    """A second sum that starts from the result of the first."""
    left, right, more = source.integer(9, 50), source.integer(1, 40), source.integer(1, 9)
    total = left + right
    sign = source.pick(("+", "-"))
    frame = {
        "+": ("And plus {}?", "Now add {}.", "plus {}", "Add {} to that."),
        "-": ("And minus {}?", "Now take away {}.", "minus {}", "Subtract {} from that."),
    }
    return Example(
        [
            user(source.pick(_FRAMES).format(f"{left} + {right}")),
            assistant(solved(left, "+", right) + "."),
            user(source.pick(frame[sign]).format(more)),
            assistant(solved(total, sign, more) + "."),
        ],
        key=f"{sign} {total} {more}",
    )
