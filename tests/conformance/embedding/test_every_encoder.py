"""What every encoder promises."""

import asyncio
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.embedding.engine import Encoder, Tokens
from services.errors import InvalidArgument, Unavailable, Unsupported
from tests.conformance.embedding.conftest import Contestant
from tests.conformance.embedding.reference import cosines, inputs, matrix
from tests.conformance.embedding.tiny_encoders import TEXTS


def random_inputs(encoder: Encoder, lengths: list[int], seed: int = 1) -> list[Tokens]:
    random = Random(seed)
    size = encoder.info.vocabulary_size
    return [Tokens([random.randrange(2, size) for _ in range(n)]) for n in lengths]


async def test_vectors_have_the_length_that_the_engine_says(encoder: Encoder) -> None:
    vectors = await encoder.encode(inputs(encoder, TEXTS), normalize=True)
    assert [len(vector) for vector in vectors] == [4 * encoder.info.dimensions] * len(TEXTS)
    assert np.allclose(np.linalg.norm(matrix(vectors), axis=1), 1.0, atol=1e-5)


async def test_without_normalizing_only_the_length_differs(encoder: Encoder) -> None:
    batch = inputs(encoder, TEXTS)
    raw = matrix(await encoder.encode(batch, normalize=False))
    unit = matrix(await encoder.encode(batch, normalize=True))
    assert not np.allclose(np.linalg.norm(raw, axis=1), 1.0, atol=1e-2)
    assert np.allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-5)


async def test_an_input_has_the_same_vector_in_any_company(
    encoder: Encoder, contestant: Contestant
) -> None:
    """The order is kept, and no input sees another."""
    batch = random_inputs(encoder, [3, 100, 17, 1, 64, 32, 33, 9, 9, 128, 5, 40])
    together = matrix(await encoder.encode(batch, normalize=True))
    alone = matrix([(await encoder.encode([each], normalize=True))[0] for each in batch])
    assert cosines(together, alone).min() >= contestant.least_cosine


@given(lengths=st.lists(st.integers(1, 128), max_size=40), seed=st.integers(0, 99))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_mix_of_lengths_keeps_its_order(
    encoder: Encoder, contestant: Contestant, lengths: list[int], seed: int
) -> None:
    batch = random_inputs(encoder, lengths, seed)
    forwards = await encoder.encode(batch, normalize=True)
    backwards = await encoder.encode(batch[::-1], normalize=True)
    assert len(forwards) == len(batch)
    if batch:
        found = cosines(matrix(forwards), matrix(backwards[::-1]))
        assert found.min() >= contestant.least_cosine


async def test_the_same_batch_gives_the_same_bytes(encoder: Encoder) -> None:
    batch = inputs(encoder, TEXTS)
    first = await encoder.encode(batch, normalize=True)
    assert first == await encoder.encode(batch, normalize=True)


async def test_nothing_gives_nothing(encoder: Encoder, cross: Encoder) -> None:
    assert await encoder.encode([], normalize=True) == []
    assert await cross.score([]) == []


async def test_lengths_from_one_token_to_the_longest(encoder: Encoder) -> None:
    longest = encoder.info.context_length
    vectors = await encoder.encode(random_inputs(encoder, [longest, 1]), normalize=True)
    assert np.isfinite(matrix(vectors)).all()
    with pytest.raises(InvalidArgument, match=f"{longest + 1} tokens"):
        await encoder.encode(random_inputs(encoder, [1, longest + 1]), normalize=True)


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        (Tokens([]), "no tokens"),
        (Tokens([-1]), "outside the vocabulary"),
        (Tokens([5, 10**6]), "outside the vocabulary"),
        (Tokens([5, 6], ignored=2), "nothing but its prefix"),
    ],
)
async def test_what_can_not_be_computed_is_refused_by_its_place(
    encoder: Encoder, tokens: Tokens, match: str
) -> None:
    with pytest.raises(InvalidArgument, match=match) as caught:
        await encoder.encode([Tokens([5]), tokens], normalize=True)
    assert caught.value.field == "inputs[1]"


async def test_the_tokenizer_says_what_it_adds(encoder: Encoder) -> None:
    text = encoder.text
    [plain], [after] = text.encode(["water and sky"]), text.encode(["water and sky"], prefix="q: ")
    assert len(text.single(plain).ids) == len(plain) + text.overhead()
    prefixed = text.single(after, prefix="q: ")
    assert len(prefixed.ids) == len(after) + text.overhead(prefix="q: ")
    assert text.overhead(prefix="q: ") > text.overhead()
    pair = text.pair(plain, after)
    assert len(pair.ids) == len(plain) + len(after) + text.overhead(pair=True)
    assert pair.second_from is not None
    assert list(pair.ids[pair.second_from :][: len(after)]) == after


async def test_broken_text_is_tokenized(encoder: Encoder) -> None:
    texts = ["\ud800 lone", "", "   ", "\0", "x" * 5000]
    for ids in encoder.text.encode(texts):
        assert all(0 <= token < encoder.info.vocabulary_size for token in ids)
    first = [encoder.text.single(ids) for ids in encoder.text.encode(texts[:4])]
    assert np.isfinite(matrix(await encoder.encode(first, normalize=True))).all()


async def test_scores_are_shares_and_keep_their_order(cross: Encoder) -> None:
    text = cross.text
    query, *documents = text.encode(["color of the sky", "the sky is red", "bread", "the color"])
    pairs = [text.pair(query, document) for document in documents]
    scores = await cross.score(pairs)
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) > 1
    alone = [(await cross.score([pair]))[0] for pair in pairs]
    assert scores == pytest.approx(alone, abs=2e-2 if cross.info.dtype == "bfloat16" else 1e-5)


async def test_vectors_and_scores_are_not_confused(encoder: Encoder, cross: Encoder) -> None:
    assert (encoder.info.scores_pairs, cross.info.scores_pairs) == (False, True)
    assert (encoder.info.dimensions > 0, cross.info.dimensions) == (True, 0)
    with pytest.raises(Unsupported):
        await cross.encode([Tokens([5])], normalize=True)
    with pytest.raises(Unsupported):
        await encoder.score([Tokens([5, 6], second_from=1)])


async def test_callers_at_once_get_their_own(encoder: Encoder, contestant: Contestant) -> None:
    batches = [random_inputs(encoder, [n, 3], seed=n) for n in range(1, 13)]
    alone = [await encoder.encode(batch, normalize=True) for batch in batches]
    at_once = await asyncio.gather(*(encoder.encode(b, normalize=True) for b in batches))
    assert at_once == alone


async def test_who_leaves_does_not_disturb_others(encoder: Encoder) -> None:
    batch = random_inputs(encoder, [50] * 20)
    calls = [asyncio.create_task(encoder.encode(batch, normalize=True)) for _ in range(6)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, list) for result in results[1::2])
    assert await encoder.encode(batch, normalize=True) == results[1]


async def test_closing_fails_who_waits_and_ends(encoder: Encoder, cross: Encoder) -> None:
    batch = random_inputs(encoder, [100] * 200)
    calls = [asyncio.create_task(encoder.encode(batch, normalize=True)) for _ in range(4)]
    await asyncio.sleep(0)
    await encoder.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, list | Unavailable) for result in results)
    assert isinstance(results[-1], Unavailable)
    with pytest.raises(Unavailable):
        await encoder.encode(batch, normalize=True)
    with pytest.raises(Unavailable):
        await encoder.probe()
    await encoder.close()
    await cross.probe()  # another engine lives on


async def test_a_probe_answers(encoder: Encoder, cross: Encoder) -> None:
    await encoder.probe()
    await cross.probe()
