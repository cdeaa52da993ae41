"""What a worker chooses by itself, and in which order it trains."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.folder import LoraPlan, Plan
from services.training.worker.batches import Schedule, parts
from services.training.worker.choices import Choices, choose, rate_at
from services.training.worker.measures import Pace, Sums

PLAN = Plan(
    job_id="j",
    model_id="m",
    base_id="b",
    base_folder="/b",
    kind="chat",
    examples="chat",
    seed=1,
    lora=LoraPlan(),
)
STARTER = 7_213_312


def test_what_the_plan_says_is_done() -> None:
    plan = msgspec.structs.replace(
        PLAN,
        epoch_count=4,
        batch_size=5,
        learning_rate=0.25,
        warmup_ratio=0.0,
        weight_decay=0.5,
    )
    assert choose(plan, 100, STARTER) == Choices(4, 5, 0.25, 0.0, 0.5)
    assert choose(plan, 3, STARTER).batch_size == 3


@given(st.integers(1, 10**7), st.integers(1, 10**12), st.booleans(), st.booleans())
def test_choices_are_within_what_callers_may_ask_for(
    examples: int, parameters: int, lora: bool, dpo: bool
) -> None:
    plan = msgspec.structs.replace(
        PLAN, lora=LoraPlan() if lora else None, method="dpo" if dpo else "supervised"
    )
    chosen = choose(plan, examples, parameters)
    assert 1 <= chosen.epoch_count <= 50
    assert 1 <= chosen.batch_size <= min(256, examples)
    assert 0 < chosen.learning_rate <= 1
    doubled = choose(
        msgspec.structs.replace(plan, learning_rate_multiplier=2.0), examples, parameters
    )
    assert doubled.learning_rate == 2 * chosen.learning_rate


def test_small_matrices_few_examples_and_small_models_take_more() -> None:
    whole = msgspec.structs.replace(PLAN, lora=None)
    gentle = msgspec.structs.replace(PLAN, method="dpo")
    rate = choose(PLAN, 200, STARTER).learning_rate
    assert rate > choose(whole, 200, STARTER).learning_rate
    assert rate > choose(gentle, 200, STARTER).learning_rate
    assert rate > choose(PLAN, 200, 7 * 10**9).learning_rate
    epochs = [choose(PLAN, count, STARTER).epoch_count for count in (50, 1000, 50_000, 10**6)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > 3 > epochs[-1]
    batches = [choose(PLAN, count, STARTER).batch_size for count in (10, 200, 10**4, 10**6)]
    assert batches == sorted(batches)


@given(st.integers(1, 400), st.floats(0, 1))
def test_the_learning_rate_rises_and_falls_and_is_never_nothing(steps: int, warmup: float) -> None:
    rates = [rate_at(step, steps, warmup) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[top] == 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 2**63),
)
def test_each_epoch_trains_each_example_once(
    tokens: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    schedule = Schedule(tokens, batch_size=batch_size, epoch_count=epochs, seed=seed)
    again = Schedule(tokens, batch_size=batch_size, epoch_count=epochs, seed=seed)
    done = 0
    step = 0
    for epoch in range(epochs):
        batches = list(schedule.epoch(epoch))
        assert batches == list(again.epoch(epoch))
        assert sorted(itertools.chain(*batches)) == list(range(len(tokens)))
        assert len(batches) == schedule.steps_per_epoch
        assert all(len(batch) == batch_size for batch in batches[:-1])
        for batch in batches:
            assert schedule.tokens_until(step) == done
            done += sum(tokens[example] for example in batch)
            step += 1
    assert step == schedule.step_count
    assert schedule.tokens_until(step) == done == epochs * sum(tokens)
    assert schedule.epochs_until(step) == epochs


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    one = Schedule([1] * 50, batch_size=50, epoch_count=2, seed=1)
    other = Schedule([1] * 50, batch_size=50, epoch_count=2, seed=2)
    orders = [next(schedule.epoch(epoch)) for schedule in (one, other) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(1, 1000))
def test_parts_hold_every_example_and_fit(lengths: list[int], most: int) -> None:
    cut = parts(lengths, most)
    assert sorted(itertools.chain(*cut)) == list(range(len(lengths)))
    for part in cut:
        padded = len(part) * max(lengths[position] for position in part)
        assert padded <= most or len(part) == 1


def test_means_are_weighted_and_begin_anew_and_survive_in_checkpoints() -> None:
    sums = Sums()
    sums.add("loss", 1.0, 3)
    sums = Sums(sums.state())
    sums.add("loss", 5.0, 1)
    sums.add("accuracy", 0.5, 2)
    assert sums.take() == {"loss": 2.0, "accuracy": 0.5}
    assert sums.take() == {}


@pytest.mark.parametrize(
    ("steps", "left", "expected"),
    [
        ([], 100, None),
        ([(10, 5.0)], 100, None),  # the first step tells nothing: it is slower than the others
        ([(10, 5.0), (10, 6.0)], 100, 10.0),
        ([(10, 5.0), (10, 6.0), (10, 7.0)], 50, 5.0),
        ([(1, 5.0), (40, 6.0), (40, 7.0)], 0, 0.0),
    ],
)
def test_the_time_left_follows_from_the_tokens_left(
    steps: list[tuple[int, float]], left: int, expected: float | None
) -> None:
    pace = Pace()
    for tokens, now in steps:
        pace.step(tokens, now)
    assert pace.remaining_s(left) == (None if expected is None else pytest.approx(expected))
