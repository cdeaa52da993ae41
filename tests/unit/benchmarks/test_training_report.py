import json

from benchmarks.training.company import FACTS, lines, questions
from benchmarks.training.report import ALONE, BESIDE, Lesson, render
from tests.unit.benchmarks.test_image_report import rows

LESSON = Lesson(
    lines=200,
    seconds=81.2,
    training_s=60.0,
    steps=450,
    epochs=9,
    tokens=97_200,
    right=8,
    asked=8,
    right_before=0,
)
SAMPLES = {
    (ALONE, 1): [100.0, 200.0, 900.0],
    (BESIDE, 1): [150.0],
    (ALONE, 8): [1000.0],
    (BESIDE, 8): [499.0],
}


def test_ratios_are_of_medians_and_may_not_fall_below_the_cores_that_are_left() -> None:
    found = rows(render(SAMPLES, LESSON, 2, 1, "a note"))
    assert found["1"] == ["200", "150", "0.75 ×", "≥ 0.50 ×", "pass"]
    assert found["8"] == ["1000", "499", "0.50 ×", "≥ 0.50 ×", "FAIL"]
    assert found["81"] == ["60", "9", "450", "97,200", "1,620", "8 of 8", "0 of 8"]


def test_lines_are_varied_and_teach_every_fact_without_asking_what_is_tried() -> None:
    made = [json.loads(line)["messages"] for line in lines()]
    assert len(made) == 200
    asked = [question["content"] for question, _ in made]
    assert len(set(asked)) == len(asked)
    answers = {answer["content"] for _, answer in made}
    assert len(answers) == len(FACTS)
    for question, key in questions():
        assert not [other for other in asked if question in other]
        assert len([answer for answer in answers if key in answer]) == 1
    assert lines() == lines()
    assert lines(200, 8) != lines()
