"""From texts to tokens: pieces, cuts and refusals; and the arithmetic of vectors."""

import contextlib
import struct
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.embedding.engine import EncoderInfo
from services.embedding.engines.echo_engine import EchoEncoder, EchoSettings
from services.embedding.lengths import Room
from services.embedding.loading import vector_length
from services.embedding.plans import prefix_of
from services.embedding.preparing import Form, Prepared, Preparer, Threads, pieces
from services.embedding.requests import Task, Truncation
from services.embedding.vectors import normalized, shortened, similarities
from services.errors import ContextLengthExceeded, FailedPrecondition, InvalidArgument

CONTEXT = 20
ROOM = CONTEXT - 2


@pytest.fixture
async def preparer() -> AsyncIterator[Preparer]:
    with contextlib.closing(Threads()) as threads:
        yield Preparer(threads, most_tokens=50_000)


def form(truncation: Truncation = Truncation.KEEP_START, most: int | None = None) -> Form:
    encoder = EchoEncoder(EchoSettings(context_length=CONTEXT))
    return Form(encoder, Room(ROOM, CONTEXT, truncation, most), encoder.text.single)


@given(st.lists(st.integers(0, 40_000), max_size=300))
def test_pieces_cover_everything_in_order(lengths: list[int]) -> None:
    inputs = [range(length) for length in lengths]
    found = list(pieces(inputs))
    assert [at for piece in found for at in piece] == list(range(len(inputs)))
    for piece in found:
        assert len(piece) == 1 or sum(lengths[at] for at in piece) <= 16_384
        assert 0 < len(piece) <= 64


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 60),
    most=st.none() | st.integers(1, 40),
    truncation=st.sampled_from(list(Truncation)),
)
def test_what_fits(count: int, most: int | None, truncation: Truncation) -> None:
    room = Room(ROOM, CONTEXT, truncation, most)
    ids = list(range(count))
    read = min(count, count if most is None else most)
    if read > ROOM and truncation is Truncation.REFUSE:
        with pytest.raises(ContextLengthExceeded) as caught:
            room.fit(ids, "inputs[3]")
        assert caught.value.field == "inputs[3]"
        return
    kept, cut = room.fit(ids, "inputs[3]")
    want = min(read, ROOM)
    assert kept == (ids[count - want :] if truncation is Truncation.KEEP_END else ids[:want])
    assert cut == (want < count)


async def test_many_inputs_stay_in_order(preparer: Preparer) -> None:
    # Texts and IDs, short and far too long, over many pieces.
    inputs = ["word " * (at % 30) + f"n{at}" if at % 3 else [at + 2] * 5 for at in range(500)]
    inputs[100] = "x " * 50_000
    prepared = Prepared()
    await preparer.add(prepared, inputs, form(), "inputs")
    text = form().encoder.text
    for given_, tokens in zip(inputs, prepared.inputs, strict=True):
        ids = text.encode([given_])[0] if isinstance(given_, str) else given_
        assert list(tokens.ids) == list(text.single(ids[:ROOM]).ids)
    assert prepared.total == sum(len(tokens.ids) for tokens in prepared.inputs)
    assert prepared.truncated == [at % 3 > 0 and (at % 30 > 17 or at == 100) for at in range(500)]


@pytest.mark.parametrize("truncation", [Truncation.KEEP_START, Truncation.KEEP_END])
async def test_very_long_texts_are_cut_as_if_all_was_read(
    preparer: Preparer, truncation: Truncation
) -> None:
    words = [f"w{at}" for at in range(20_000)]
    # Without spaces near, and with nothing but spaces at an end: then all of it is read.
    for text in (" ".join(words), "-".join(words), " " * 50_000 + "w1 w2" + " " * 50_000):
        prepared = Prepared()
        await preparer.add(prepared, [text], form(truncation), "inputs")
        tokenizer = form().encoder.text
        (ids,) = tokenizer.encode([text])
        kept = ids[:ROOM] if truncation is Truncation.KEEP_START else ids[-ROOM:]
        assert list(prepared.inputs[0].ids) == list(tokenizer.single(kept).ids)


async def test_a_call_has_bounds(preparer: Preparer) -> None:
    with pytest.raises(InvalidArgument, match="more than 50000 tokens") as caught:
        await preparer.add(Prepared(), ["a " * 18] * 2_600, form(), "documents")
    assert caught.value.field == "documents"
    with pytest.raises(ContextLengthExceeded) as refused:
        await preparer.add(Prepared(), ["a", [3] * 19], form(Truncation.REFUSE), "inputs")
    assert refused.value.metadata == {"context_length": "20", "prompt_tokens": "21"}
    with pytest.raises(InvalidArgument) as unknown:
        await preparer.add(Prepared(), ["a", [3, 40_000, -1]], form(), "inputs")
    assert unknown.value.field == "inputs[1].token_ids.ids[1]"


INFO = EncoderInfo("e", "cpu", "float32", "", 512, 100, 0, dimensions=64)
PROMPTS = {"query": "Q ", "Passage": "P ", "STS": "S ", "plain": ""}


@pytest.mark.parametrize(
    ("task", "name", "default", "want"),
    [
        (Task.UNSPECIFIED, "", "", ""),
        (Task.UNSPECIFIED, "", "STS", "S "),
        (Task.QUERY, "", "STS", "Q "),
        (Task.DOCUMENT, "", "", "P "),
        (Task.SIMILARITY, "", "", "S "),
        (Task.CLUSTERING, "", "query", "Q "),
        (Task.QUERY, "plain", "", ""),
    ],
)
def test_prefixes(task: Task, name: str, default: str, want: str) -> None:
    info = EncoderInfo("e", "cpu", "f", "", 9, 9, 0, prompts=PROMPTS, default_prompt=default)
    assert prefix_of(info, task, name) == want
    with pytest.raises(InvalidArgument, match="'Passage', 'STS', 'plain', 'query'"):
        prefix_of(info, task, "nope")


def test_deployments_choose_a_length_that_there_is() -> None:
    short = EncoderInfo("e", "cpu", "f", "", 9, 9, 0, dimensions=64, shortening=True)
    cross = EncoderInfo("e", "cpu", "f", "", 9, 9, 0, scores_pairs=True)
    assert [vector_length(INFO, asked) for asked in (0, 64)] == [64, 64]
    assert vector_length(short, 8) == 8
    for info, asked in ((INFO, 8), (INFO, 65), (short, 65), (cross, 8)):
        with pytest.raises(FailedPrecondition, match="leave 'dimensions' out"):
            vector_length(info, asked)


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_vectors() -> None:
    assert normalized([packed(3, 4), packed(0, 0)]) == [packed(0.6, 0.8), packed(0, 0)]
    # Squares of these are beyond single precision.
    (large,) = normalized([packed(3e30, 4e30)])
    assert struct.unpack("<2f", large) == pytest.approx((0.6, 0.8), abs=1e-6)
    assert shortened([packed(3, 4, 12)], 2, normalize=True) == [packed(0.6, 0.8)]
    assert shortened([packed(3, 4, 12)], 2, normalize=False) == [packed(3, 4)]
    documents = [packed(2, 0), packed(0, 1), packed(-1, 0), packed(0, 0)]
    assert similarities(packed(1, 0), documents) == [1, 0.5, 0, 0.5]
