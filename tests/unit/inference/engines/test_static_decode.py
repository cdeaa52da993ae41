"""Steps over fixed buffers compute what steps as they come compute."""

import copy
import logging

import pytest
import torch

from services.inference.engines import static_decode
from services.inference.engines.masks import Masks
from services.inference.engines.memory_ops import CopyRow, Kept, Resize, SwapRows
from services.inference.engines.static_decode import EAGER_USES, Shape, StaticDecode, rounded_up
from services.inference.engines.steps import Span
from services.inference.engines.torch_runner import TorchRunner
from tests.unit.inference.engines.decode_pair import COLUMNS, ROWS, Pair, sequence
from tests.unit.inference.engines.decoder_models import VARIANTS, reference
from tests.unit.inference.engines.plain_recorder import PlainRecorder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths from one quantum on, so that short sequences have several."""
    monkeypatch.setattr(static_decode, "LEAST_LENGTH", 1)


class Recorded(Pair):
    """A pair with a recorder that counts."""

    def __init__(self, variant: str = "llama", recorder: PlainRecorder | None = None) -> None:
        self.recorder = recorder or PlainRecorder(warm_ups=2)
        super().__init__(self.recorder, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_family(variant: str) -> None:
    """Unequal lengths, past a window of 6 and across a border of read lengths, in padded shapes."""
    pair = Recorded(variant)
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(27, 3, 11, 20, 7)
    for _ in range(2 * (EAGER_USES + 2)):
        pair.decode(5)
    for _ in range(EAGER_USES + 1):
        pair.decode(2)
    assert set(pair.shapes) == {Shape(6, 32), Shape(6, 64), Shape(2, 64)}
    assert pair.recorder.runs == 3 + 2 + 2 + 1  # once each to be proven


def test_it_records_after_some_uses_and_runs_what_it_recorded() -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5)
    for _ in range(EAGER_USES):
        pair.decode(1)
    assert (pair.recorder.recorded, pair.recorder.runs, pair.shapes) == (0, 0, ())
    for _ in range(4):
        pair.decode(1)
    assert (pair.recorder.recorded, pair.recorder.runs) == (1, 1 + 4)
    assert pair.shapes == (Shape(1, 32),)


def test_padding_never_touches_rows_of_others() -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(9, 9, 9, 9, 9, 9, 9)  # two rows more than are decoded below
    for _ in range(EAGER_USES + 3):
        pair.decode(5)
    assert pair.shapes == (Shape(6, 32),)
    pair.decode(7)  # more than slots: as they come; compares what the rows hold too
    assert pair.recorder.recorded == 1


def test_rows_and_columns_end_where_the_memory_does() -> None:
    pair = Recorded()
    pair.operate(Resize(5, 96))
    pair.begin(70, 3, 3, 3, 3)
    for _ in range(EAGER_USES + 2):
        pair.decode(5)
    assert pair.shapes == (Shape(5, 96),)


@pytest.mark.parametrize(
    "operation", [Resize(6, 96, tuple(Kept(row, row, 20) for row in range(3))), Resize(0, 0)]
)
def test_what_is_recorded_goes_when_the_memory_moves(operation: Resize) -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5, 6, 7)
    for _ in range(EAGER_USES + 1):
        pair.decode(3)
    pair.operate(operation)
    if not operation.kept:
        pair.operate(Resize(ROWS, COLUMNS))
        pair.begin(4, 4, 4)
    for use in range(EAGER_USES + 3):
        pair.decode(3)
        assert bool(pair.shapes) == (use >= EAGER_USES)
    assert pair.recorder.recorded == 2


def test_copies_and_swaps_leave_it_recorded() -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5, 6, 7)
    for _ in range(EAGER_USES + 1):
        pair.decode(3)
    first, second, third = pair.sequences
    pair.operate(SwapRows(0, len(first.tokens), 1, len(second.tokens)), CopyRow(2, 4, 5))
    pair.sequences = [second, first, third]
    for _ in range(3):
        pair.decode(3)
    assert (pair.recorder.recorded, pair.recorder.runs) == (1, 1 + 4)


def test_all_other_steps_run_as_they_come() -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5, 6, 7)
    one, two, three = pair.sequences
    for _ in range(EAGER_USES + 2):
        draft = [Span(one, len(one.tokens) - 1, 3, 0, (1, 2))]
        pair.compare(draft, every_position=True)
        pair.compare(draft)
        pair.compare([Span(two, 0, 2, 0)])
        pair.compare([Span(three, 0, 1, 1)])  # not in the first row
        pair.compare([Span(two, 0, 1, 1), Span(three, 0, 1, 0)])  # not in order
        pair.compare([Span(two, 0, 1, 0)], every_position=True)
    assert pair.recorder.recorded == 0


def test_nothing_is_recorded_where_there_is_no_memory_yet() -> None:
    pair = Recorded()
    for _ in range(EAGER_USES + 2):
        pair.operate(Resize(ROWS, COLUMNS))
        pair.compare([Span(sequence(0, [3]), 0, 1, 0)])
    assert pair.recorder.recorded == 0


@pytest.mark.parametrize("bad", [{"refused": 1}, {"wrong": 1}])
def test_a_shape_that_cannot_be_recorded_runs_as_it_comes(
    bad: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    pair = Recorded(recorder=PlainRecorder(warm_ups=1, **bad))
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5, 6)
    with caplog.at_level(logging.WARNING):
        for _ in range(EAGER_USES + 4):
            pair.decode(1)
        for _ in range(EAGER_USES + 2):
            pair.decode(2)
    assert pair.shapes == (Shape(2, 32),)
    assert [record.getMessage() for record in caplog.records] == [
        "decode steps of 1 rows and 32 columns can't be recorded: they run as they come"
    ]


def test_the_shape_not_used_for_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_decode, "MOST_SHAPES", 2)
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(2, 2, 2)
    for count in (1, 2):
        for _ in range(EAGER_USES + 1):
            pair.decode(count)
    pair.decode(1)
    for _ in range(EAGER_USES + 1):
        pair.decode(3)
    assert pair.shapes == (Shape(1, 32), Shape(3, 32))
    for _ in range(EAGER_USES):  # and has to prove itself again
        pair.decode(2)
    assert pair.recorder.recorded == 3


def test_nothing_is_left_after_a_release() -> None:
    pair = Recorded()
    pair.operate(Resize(ROWS, COLUMNS))
    pair.begin(5)
    for _ in range(EAGER_USES + 1):
        pair.decode(1)
    static = pair.recording._static
    assert isinstance(static, StaticDecode)
    pair.recording.release()
    assert not static.shapes
    assert pair.recording._static is None


def test_models_on_other_code_have_no_recorded_steps() -> None:
    model = copy.deepcopy(reference("llama"))
    masks = Masks(frozenset({"full_attention"}), 0, None)
    options = {"layers": 2, "vocabulary_size": 320, "eos": frozenset[int]()}
    assert TorchRunner(model, masks, recorder=PlainRecorder(), **options)._static is None


def test_sizes_double_in_two_steps() -> None:
    assert [rounded_up(n) for n in range(1, 14)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 12, 12, 16]
    assert all(n <= rounded_up(n) <= 1.5 * n for n in range(1, 2000))
