"""How inputs are laid out in one row."""

from hypothesis import given
from hypothesis import strategies as st

from services.embedding.engines.packing import BLOCK_TOKENS, lay_out


@given(st.lists(st.integers(1, 200), min_size=1, max_size=120), st.sampled_from([1, 8, 32, 64]))
def test_every_input_has_one_place_and_no_place_is_empty(lengths: list[int], block: int) -> None:
    layout = lay_out(lengths, block=block)
    assert sorted(layout.order) == list(range(len(lengths)))
    place = 0
    waiting = [lengths[index] for index in layout.order]
    for blocks in layout.blocks:
        assert blocks.start == place
        for _ in range(blocks.count):
            inputs, filled = 0, 0
            while filled < blocks.size:
                filled += waiting.pop(0)
                inputs += 1
            assert filled == blocks.size
            assert blocks.shared == (inputs > 1)
            assert inputs == 1 or blocks.size <= block
        place += blocks.count * blocks.size
    assert place == sum(lengths)


@given(st.lists(st.integers(1, BLOCK_TOKENS), min_size=1, max_size=120))
def test_short_inputs_fill_blocks(lengths: list[int]) -> None:
    """No two blocks would fit into one."""
    sizes = sorted(
        size for blocks in lay_out(lengths).blocks for size in [blocks.size] * blocks.count
    )
    assert len(sizes) < 2 or sizes[0] + sizes[1] > BLOCK_TOKENS


def test_inputs_of_one_length_are_computed_together() -> None:
    assert [(x.size, x.count) for x in lay_out([100] * 7).blocks] == [(100, 7)]
    assert [(x.size, x.count) for x in lay_out([8] * 64).blocks] == [(32, 16)]
