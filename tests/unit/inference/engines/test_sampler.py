"""The vectorised sampler against a plain one, written for reading."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine import GroupRequest, SamplingParams, SequenceRequest
from services.inference.engines import filters
from services.inference.engines.edits import edit
from services.inference.engines.filters import filter_likeliest, filter_rows
from services.inference.engines.sampler import (
    BLOCK,
    RowSampler,
    choose,
    choose_along,
    pick,
    score_tokens,
)
from services.inference.engines.sequences import GroupState, SequenceState

VOCABULARY = 12
CPU = torch.device("cpu")


def state(prompt: list[int], output: list[int], **params: Any) -> SequenceState:
    sampling = SamplingParams(max_tokens=99, **{"seed": 1, **params})
    sequence = SequenceRequest(prompt, sampling)
    group = GroupState(GroupRequest([sequence]), lambda events: None, None)
    return SequenceState(0, group, 0, sequence, 99, [*prompt, *output])


def row(prompt: list[int], output: list[int], **params: Any) -> RowSampler:
    return RowSampler(state(prompt, output, **params), frozenset({0}), CPU)


def reference_edit(
    logits: list[float], prompt: list[int], output: list[int], p: SamplingParams
) -> list[float]:
    edited = list(logits)
    context = prompt + output
    recent = (
        context
        if p.repeat_last_n < 0
        else context[len(context) - min(len(context), p.repeat_last_n) :]
    )
    for token in set(recent):
        value = edited[token]
        edited[token] = value / p.repetition_penalty if value > 0 else value * p.repetition_penalty
    for token, count in Counter(output).items():
        edited[token] -= p.frequency_penalty * count + p.presence_penalty
    for token, bias in p.logit_bias.items():
        edited[token] += bias
    if len(output) < p.min_tokens:
        for token in ({0} if not p.ignore_eos else set()) | p.stop_token_ids:
            edited[token] = -math.inf
    return edited


def normalised(weights: dict[int, float]) -> dict[int, float]:
    total = sum(weights.values())
    return {token: weight / total for token, weight in weights.items()}


def reference_filter(probabilities: list[float], p: SamplingParams) -> dict[int, float]:
    left = dict(sorted(enumerate(probabilities), key=lambda item: -item[1]))
    if p.top_k:
        left = dict(list(left.items())[: p.top_k])
    if p.typical_p < 1:
        left = normalised(left)
        entropy = -sum(q * math.log(q) for q in left.values() if q > 0)
        near = sorted(
            left, key=lambda t: abs(-math.log(left[t]) - entropy) if left[t] > 0 else math.inf
        )
        mass, kept = 0.0, set()
        for token in near:
            if mass >= p.typical_p:
                break
            kept.add(token)
            mass += left[token]
        left = {token: q for token, q in left.items() if token in kept}
    if p.top_p < 1:
        left = normalised(left)
        mass, kept = 0.0, set()
        for token, q in left.items():
            if mass >= p.top_p and kept:
                break
            kept.add(token)
            mass += q
        left = {token: q for token, q in left.items() if token in kept}
    best = max(left.values())
    left = {token: q for token, q in left.items() if q >= p.min_p * best and q > 0}
    return normalised(left)


tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)
logit_rows = st.lists(
    st.integers(-400, 400).map(lambda value: value / 50),
    min_size=VOCABULARY,
    max_size=VOCABULARY,
    unique=True,
)


@given(
    logits=logit_rows,
    prompt=tokens,
    output=tokens,
    repetition=st.sampled_from([1.0, 1.3, 0.8]),
    last_n=st.integers(-1, 10),
    presence=st.sampled_from([0.0, 0.5, -1.0]),
    frequency=st.sampled_from([0.0, 0.7, -0.2]),
    bias=st.dictionaries(
        st.integers(0, VOCABULARY - 1), st.sampled_from([-100.0, 1.5]), max_size=3
    ),
    min_tokens=st.integers(0, 6),
    stops=st.frozensets(st.integers(1, 3), max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_edits_are_the_reference_ones(
    logits: list[float],
    prompt: list[int],
    output: list[int],
    repetition: float,
    last_n: int,
    presence: float,
    frequency: float,
    bias: dict[int, float],
    min_tokens: int,
    stops: frozenset[int],
) -> None:
    sampler = row(
        prompt,
        output,
        repetition_penalty=repetition,
        repeat_last_n=last_n,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=bias,
        min_tokens=min_tokens,
        stop_token_ids=stops,
    )
    expected = reference_edit(logits, prompt, output, sampler.params)
    # Neighbours with other parameters, and one without any, change nothing.
    other = row([2, 3], [3], repetition_penalty=1.9, frequency_penalty=0.3, logit_bias={3: 2.0})
    rows = [other.edits, sampler.edits, row([1], []).edits]
    edited = torch.tensor([logits] * 3)
    edit(edited, rows)
    assert edited[1].tolist() == pytest.approx(expected, abs=1e-4)
    assert edited[0].tolist() == pytest.approx(
        reference_edit(logits, [2, 3], [3], other.params), abs=1e-4
    )
    assert edited[2].tolist() == torch.tensor(logits).tolist()
    if not sampler.edits.any:
        assert edited[1].tolist() == edited[2].tolist()


@given(
    logits=logit_rows,
    top_k=st.integers(0, VOCABULARY + 3),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.1, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    typical_p=st.sampled_from([1.0, 0.9, 0.4, 0.01]),
)
@settings(max_examples=200, deadline=None)
def test_filters_keep_what_the_reference_keeps(
    logits: list[float], top_k: int, top_p: float, min_p: float, typical_p: float
) -> None:
    params = SamplingParams(1, 0, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    probabilities = torch.softmax(torch.tensor([logits], dtype=torch.float64), dim=-1)
    expected = reference_filter(probabilities[0].tolist(), params)
    # A neighbour with other parameters changes nothing.
    both = torch.cat([probabilities, probabilities.flip(-1)])
    kept, order = filter_rows(both, [params, SamplingParams(1, 0, top_k=3, typical_p=0.3)])
    actual = {t: q for t, q in zip(order[0].tolist(), kept[0].tolist(), strict=True) if q > 0}
    assert normalised(actual) == pytest.approx(expected, abs=1e-6)


@given(
    logits=logit_rows,
    top_k=st.integers(0, VOCABULARY + 3),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.1, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    typical_p=st.sampled_from([1.0, 0.9, 0.4]),
    candidates=st.integers(1, VOCABULARY),
)
@settings(max_examples=200, deadline=None)
def test_what_stays_among_the_likeliest_is_all_that_stays(
    logits: list[float], top_k: int, top_p: float, min_p: float, typical_p: float, candidates: int
) -> None:
    params = SamplingParams(1, 0, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p)
    probabilities = torch.softmax(torch.tensor([logits], dtype=torch.float64), dim=-1)
    expected = reference_filter(probabilities[0].tolist(), params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "CANDIDATES", candidates)
        kept, order, [whole] = filter_likeliest(probabilities, [params])
    assert kept.shape == order.shape == (1, candidates)
    if whole:
        actual = {t: q for t, q in zip(order[0].tolist(), kept[0].tolist(), strict=True) if q > 0}
        assert normalised(actual) == pytest.approx(expected, abs=1e-6)
    else:  # not for nothing: more could stay, or the typical need all to be told
        assert candidates < VOCABULARY
        assert len(expected) >= candidates or typical_p < 1 or top_k > candidates
    assert whole or not 0 < top_k <= candidates


@pytest.mark.parametrize("candidates", [2, 5, VOCABULARY])
def test_tokens_do_not_depend_on_how_they_are_looked_for(
    candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    logits = torch.randn(40, VOCABULARY) * 3
    kinds: list[dict[str, Any]] = [
        {"top_p": 0.5},
        {"top_p": 0.95, "temperature": 2.0},
        {"min_p": 0.2},
        {"top_k": 4, "typical_p": 0.7},
        {"typical_p": 0.6},
    ]

    def chosen() -> list[int]:
        rows = [row([1], [], seed=index, **kinds[index % 5]) for index in range(40)]
        return [choice.token_id for choice in choose(logits, rows)]

    monkeypatch.setattr(filters, "CANDIDATES", VOCABULARY)
    expected = chosen()
    monkeypatch.setattr(filters, "CANDIDATES", candidates)
    assert chosen() == expected


@given(
    weights=st.lists(st.sampled_from([0.0, 0.0, 1e-30, 1e-6, 0.1, 1.0]), min_size=1, max_size=9),
    spacing=st.sampled_from([1, 7, BLOCK - 1, BLOCK, BLOCK + 1]),
    draw=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=300, deadline=None)
def test_a_place_without_weight_is_never_picked(
    weights: list[float], spacing: int, draw: float
) -> None:
    if not any(weights):
        return
    spread = torch.zeros(1, len(weights) * spacing)
    spread[0, ::spacing] = torch.tensor(weights)
    place = int(pick(spread, torch.tensor([draw], dtype=torch.float64)))
    assert spread[0, place] > 0
    cumulative = spread[0].double().cumsum(-1)
    target = draw * float(cumulative[-1])
    slack = 1e-12 * float(cumulative[-1])
    assert float(cumulative[place]) > target - slack
    assert float(cumulative[place] - spread[0, place].double()) <= target + slack


def test_broken_numbers_of_one_row_leave_the_others_alone() -> None:
    torch.manual_seed(2)
    logits = torch.randn(3, VOCABULARY)
    expected = choose(logits, [row([1], [], seed=index, top_p=0.9) for index in range(3)])
    logits[1] = torch.nan
    rows = [row([1], [], seed=index, top_p=0.9) for index in range(3)]
    actual = choose(logits, rows)
    assert [actual[0], actual[2]] == [expected[0], expected[2]]
    assert 0 <= actual[1].token_id < VOCABULARY


@given(logits=logit_rows, seed=st.integers(-(2**63), 2**63 - 1), drawn=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_sampling_inverts_the_distribution(logits: list[float], seed: int, drawn: int) -> None:
    """The draw picks the token in whose share of [0, 1) it falls; a sampler made anew goes on."""
    generator = random.Random(seed)
    draws = [generator.random() for _ in range(drawn + 1)]
    sampler = row([1], [5] * drawn, seed=seed, temperature=0.8)
    [choice] = choose(torch.tensor([logits]), [sampler])
    scaled = torch.softmax(torch.tensor(logits, dtype=torch.float64) / 0.8, dim=-1).cumsum(-1)
    place = int((scaled <= draws[drawn]).sum())
    near = min(abs(scaled - draws[drawn]).tolist()) < 1e-5
    assert choice.token_id == place or near


def test_frequencies_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0] + [-30.0] * 8)
    rows = [row([1], [], seed=seed, temperature=1.0) for seed in range(4000)]
    counts = Counter(choice.token_id for choice in choose(logits.expand(4000, -1), rows))
    for token, share in enumerate(torch.softmax(logits, -1)[:4].tolist()):
        assert counts[token] / 4000 == pytest.approx(share, abs=0.03)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, VOCABULARY)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 1.2, "top_k": 3, "repetition_penalty": 1.4},
        {"temperature": 1.0, "typical_p": 0.5, "logprobs": 2},
        {"temperature": 0.9, "min_p": 0.1, "frequency_penalty": 1.0},
    ]

    def make(index: int) -> RowSampler:
        return row([1, 2], [3, 3], seed=index, **kinds[index])

    together = choose(logits, [make(index) for index in range(6)])
    alone = [choose(logits[[index]], [make(index)])[0] for index in range(6)]
    reverse = choose(logits.flip(0), [make(index) for index in reversed(range(6))])[::-1]
    assert together == alone == reverse


@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"top_p": 0.0}, {"top_k": 1}, {"temperature": 1e-30}]
)
def test_greedy(params: dict[str, Any]) -> None:
    logits = torch.randn(1, VOCABULARY)
    [choice] = choose(logits, [row([1], [], **params)])
    assert choice.token_id == int(logits.argmax())


def test_penalties_count_what_was_chosen() -> None:
    sampler = row([1], [], temperature=0, frequency_penalty=2.0)
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 4], logits[0, 6] = 3.0, 2.0
    chosen: list[int] = []
    for _ in range(3):
        [choice] = choose(logits, [sampler])
        chosen.append(choice.token_id)
    assert chosen == [4, 6, 4]


def test_scores_are_of_the_raw_logits() -> None:
    logits = torch.randn(1, VOCABULARY)
    sampler = row([1], [], temperature=0.2, top_k=2, logit_bias={3: 100.0}, logprobs=4)
    [choice] = choose(logits, [sampler])
    assert choice.token_id == 3
    assert choice.score is not None
    raw = torch.log_softmax(logits[0], dim=-1)
    assert choice.score.logprob == pytest.approx(float(raw[3]), abs=1e-5)
    assert [token for token, _ in choice.score.top] == raw.topk(4).indices.tolist()


def test_score_tokens() -> None:
    logits = torch.randn(3, VOCABULARY)
    raw = torch.log_softmax(logits, dim=-1)
    scores = score_tokens(logits, [5, 0, 11], 2)
    assert [score.token_id for score in scores] == [5, 0, 11]
    for index, score in enumerate(scores):
        assert score.logprob == pytest.approx(float(raw[index, score.token_id]), abs=1e-5)
        assert len(score.top) == 2
    assert score_tokens(logits[:0], [], 2) == []
    assert len(score_tokens(logits, [1, 1, 1], 99)[0].top) == VOCABULARY


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 0, "repetition_penalty": 1.5},
        {"temperature": 0, "repetition_penalty": 1.5, "repeat_last_n": 2},
        {"temperature": 1.0, "repetition_penalty": 1.5, "repeat_last_n": 7},
        {"temperature": 0, "frequency_penalty": 0.6, "presence_penalty": 0.3},
        {"temperature": 0, "min_tokens": 5, "logit_bias": {0: 9.0}},
    ],
)
@pytest.mark.parametrize("drafted", [False, True])
def test_what_a_row_keeps_can_be_made_anew(params: dict[str, Any], drafted: bool) -> None:
    """And it counts its tokens itself: with drafts, the sequence learns of several at once."""
    torch.manual_seed(1)
    logits = torch.randn(1, 12, VOCABULARY)
    output: list[int] = []
    expected = []
    for place in range(12):
        [choice] = choose(logits[:, place], [row([1, 2, 3], output, **params)])
        expected.append(choice)
        output.append(choice.token_id)
    kept = row([1, 2, 3], [], **params)
    if drafted:
        [chosen] = choose_along(logits, [kept], [output[:-1]])
    else:
        chosen = [choose(logits[:, place], [kept])[0] for place in range(12)]
    assert chosen == expected


@given(
    lengths=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_rows_go_on_as_far_as_their_drafts_are_right(
    lengths: list[tuple[int, int]], seed: int
) -> None:
    """Of each row: tokens drafted, and how many of them are right."""
    torch.manual_seed(seed)
    width = 1 + max(drafted for drafted, _ in lengths)
    logits = torch.randn(len(lengths), width, VOCABULARY)
    drafts: list[list[int]] = []
    expected: list[list[int]] = []
    for index, (drafted, right) in enumerate(lengths):
        natural = logits[index, width - 1 - drafted :].argmax(-1).tolist()
        draft = natural[:drafted]
        if right < drafted:
            draft[right] = (draft[right] + 1) % VOCABULARY
        drafts.append(draft)
        expected.append(natural[: min(right, drafted) + 1])
    rows = [row([1], [], temperature=0) for _ in lengths]
    chosen = choose_along(logits, rows, drafts)
    assert [[choice.token_id for choice in choices] for choices in chosen] == expected
