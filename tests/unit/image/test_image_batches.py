"""The images of a job: each is drawn once, batch after batch, whatever is skipped."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.image.batches import Batches


class BatchesMachine(RuleBasedStateMachine):
    """Images are taken, stepped and drawn in any order."""

    @initialize(size=st.integers(1, 4), count=st.integers(1, 3))
    def begin(self, size: int, count: int) -> None:
        self.batches = Batches(size, count, step_count=10)
        self.size, self.count = size, count
        self.drawing: list[int] = []
        self.taken: list[int] = []
        self.last = 0.0
        self.skips: set[int] = set()

    @precondition(lambda self: self.batches.waiting)
    @rule()
    def take(self) -> None:
        image = self.batches.take()
        assert image // self.size == self.batches.index
        assert image not in self.taken
        self.taken.append(image)
        self.drawing.append(image)

    @precondition(lambda self: self.drawing)
    @rule(data=st.data(), share=st.floats(0, 1))
    def step(self, data: st.DataObject, share: float) -> None:
        image = data.draw(st.sampled_from(self.drawing))
        given_up = self.batches.interrupted or image // self.size in self.skips
        assert self.batches.gives_up(image) == given_up

    @precondition(lambda self: self.drawing)
    @rule(data=st.data())
    def draw(self, data: st.DataObject) -> None:
        image = data.draw(st.sampled_from(self.drawing))
        self.drawing.remove(image)
        self.batches.drawn(image)

    @rule()
    def interrupt(self) -> None:
        self.batches.interrupt()
        assert not self.batches.waiting

    @rule()
    def skip(self) -> None:
        index = self.batches.index
        begun = any(image // self.size == index for image in self.taken)
        able = begun and not self.batches.interrupted and index not in self.skips
        assert self.batches.skip() == able
        if able:
            self.skips.add(index)

    @invariant()
    def it_ends_when_nothing_is_left(self) -> None:
        batches = self.batches
        assert batches.over == (not batches.remaining and not self.drawing)
        assert 0 <= batches.done <= 1
        assert self.last <= batches.fraction <= 1
        self.last = batches.fraction
        if batches.over and not batches.interrupted and not self.skips:
            assert sorted(self.taken) == list(range(self.size * self.count))
            assert batches.fraction == 1

    @invariant()
    def only_one_batch_is_drawn(self) -> None:
        assert {image // self.size for image in self.drawing} <= {self.batches.index}


TestBatches = BatchesMachine.TestCase


def test_shares_make_up_the_batch() -> None:
    batches = Batches(size=4, count=2, step_count=10)
    first, second = batches.take(), batches.take()
    batches.stepped(first, 0.5)
    assert (batches.done, batches.fraction) == (0.125, 0.0625)
    batches.drawn(first)
    batches.stepped(first, 0.1)  # too late
    batches.stepped(second, 0.6)
    assert (batches.done, batches.fraction) == (0.4, 0.2)
