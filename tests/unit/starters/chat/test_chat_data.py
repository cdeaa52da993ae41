"""The generators: deterministic, well-formed, and apart from the exam."""

from __future__ import annotations

import json
import re
from functools import cache
from random import Random

import pytest

from starters.chat.recipe.conversation import Example, normalise
from starters.chat.recipe.curriculum import SKILLS, draw
from starters.chat.recipe.exam import instances, prompt, right
from starters.chat.recipe.rendering import render
from starters.chat.recipe.skills.grounded import NO_ANSWER
from starters.chat.recipe.skills.showcase import QUESTIONS
from starters.chat.recipe.skills.tools import calls_in
from starters.chat.recipe.source import Source, is_held_out

EVERY_SKILL = pytest.mark.parametrize("skill", SKILLS)


def drawn(skill: str, count: int = 60, *, held_out: bool = False) -> list[Example]:
    """Some examples of a skill."""
    rng = Random(f"test {skill}")
    return [draw(skill, rng, held_out=held_out) for _ in range(count)]


@cache
def examined(skill: str) -> frozenset[str]:
    """What the exam asks."""
    return frozenset(example.instance for example in instances(skill, 100))


@EVERY_SKILL
def test_the_same_seed_makes_the_same_examples(skill: str) -> None:
    assert drawn(skill, 10) == drawn(skill, 10)


@EVERY_SKILL
def test_a_conversation_ends_with_the_assistant(skill: str) -> None:
    for example in drawn(skill):
        assert example.messages[-1]["role"] == "assistant"
        assert example.messages[-2]["role"] in {"user", "tool"}


@EVERY_SKILL
def test_the_reference_answer_passes_the_exam(skill: str) -> None:
    for example in drawn(skill):
        whole = render(example.messages, example.tools)
        said = whole.removeprefix(prompt(example)).removesuffix("<|im_end|>\n")
        assert right(example, said), said


@EVERY_SKILL
def test_no_instance_is_in_both_training_and_exam(skill: str) -> None:
    trained = {example.instance for example in drawn(skill, 200)}
    assert not any(is_held_out(instance) for instance in trained)
    assert all(is_held_out(instance) for instance in examined(skill))
    assert trained.isdisjoint(examined(skill))


@EVERY_SKILL
def test_the_exam_never_asks_what_the_showcase_trains(skill: str) -> None:
    assert QUESTIONS.isdisjoint(examined(skill))


@pytest.mark.parametrize("kind", ["name", "surname", "place", "made_up"])
def test_pools_of_training_and_exam_are_disjoint(kind: str) -> None:
    training, exam = Source(Random(1), False), Source(Random(2), True)
    trained = {getattr(training, kind)() for _ in range(5000)}
    assert trained.isdisjoint(getattr(exam, kind)() for _ in range(5000))
    assert not any(is_held_out(word.lower()) for word in trained)


@pytest.mark.parametrize("skill", ["addition", "subtraction", "multiplication", "division"])
def test_sums_are_right(skill: str) -> None:
    for example in drawn(skill, 300):
        parts = example.messages[-1]["content"].rstrip(".").split(" = ")
        values = {eval(p.replace("×", "*").replace("÷", "//")) for p in parts}
        assert len(values) == 1


@pytest.mark.parametrize("skill", ["context_answered", "context_retrieved", "context_long"])
def test_an_answer_from_context_is_copied_from_it(skill: str) -> None:
    for example in drawn(skill, 200):
        *given, last = (message["content"] for message in example.messages)
        assert last == NO_ANSWER or last in json.loads(f'"{_escaped(" ".join(given))}"')


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1]


def test_arguments_of_a_call_stand_in_the_request() -> None:
    for example in drawn("tool_choice", 200):
        ((name, arguments),) = calls_in(example.accepted[0])
        declared = {tool["function"]["name"]: tool["function"] for tool in example.tools}
        request = example.messages[-2]["content"].lower()
        assert arguments.keys() <= declared[name]["parameters"]["properties"].keys()
        assert all(str(value).lower() in request for value in arguments.values())


def test_extracted_values_stand_in_the_text() -> None:
    for example in drawn("extraction", 200):
        text = example.messages[-2]["content"]
        for value in json.loads(example.messages[-1]["content"]).values():
            shown = f"{value:.2f}" if isinstance(value, float) else str(value)
            assert value is None or shown in text


def test_stories_say_an_before_a_vowel() -> None:
    for example in drawn("stories", 200):
        assert not re.search(r"\b[Aa] [aeio]", example.messages[-1]["content"])


def test_normalising_folds_case_and_punctuation() -> None:
    assert normalise("  Hello,  WORLD! ") == "hello world"
