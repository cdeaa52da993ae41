"""Runs a denoiser so that each drawing comes out as it would alone, to the byte.

Kernels choose their order of summing by the shape of a batch, so a row of a larger batch may differ
in its last bits. Rows therefore go through the denoiser one drawing at a time (with its negative
prompt, as alone), unless comparisons on real inputs have shown that a wider group gives the same
bits with the kernels that are chosen for these inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

WIDTHS = (8, 4, 2)
"""Drawings of a group, widest first."""
PROOF = 2**18
"""Numbers of 16 bits that have to come out equal before a group is trusted: a sum that is split in
another way is nearly always rounded to the same one. In 32 bits the first comparison shows it."""
_WHOLE = frozenset({"txt_ids", "img_ids"})
"""Arguments that are the same for all rows."""
_Kernels = tuple[object, ...]
"""All that kernels are chosen by, but the width of the group."""


class Rows:
    """Stands in front of a denoiser's `forward`."""

    def __init__(
        self,
        denoiser: nn.Module,
        *,
        exact: bool,
        most: int,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """Takes its place.

        `most` is the most drawings of one group, `layout` that of pictures in memory.
        """
        self._forward: Callable[..., tuple[Tensor, ...]] = denoiser.forward
        self._dtype: torch.dtype = next(denoiser.parameters()).dtype
        self._exact = exact
        self._layout = layout
        self._most = most
        self._proof = PROOF if self._dtype.itemsize < 4 else 1
        # How many numbers of a group came out equal; None where one did not.
        self._equal: dict[tuple[_Kernels, int], int | None] = {}
        self._count = 1
        self._mode = ""
        self._check: Callable[[], None] | None = None
        self._beside: Tensor | None = None
        denoiser.forward = self._split

    @contextmanager
    def run(
        self,
        count: int,
        check: Callable[[], None],
        beside: Tensor | None = None,
        *,
        mode: str = "",
    ):
        """Everything in here is of so many drawings.

        Args:
            count: of drawings.
            check: is called between groups, and may raise.
            beside: channels that go beside the sample's, a row for each drawing.
            mode: in which the denoiser's own layers are now, such as how they pad.
        """
        self._count, self._check, self._beside, self._mode = count, check, beside, mode
        try:
            yield
        finally:
            self._count, self._check, self._beside, self._mode = 1, None, None, ""

    def exact_width(self, run: Callable[[int], None], *, most: int) -> int:
        """The widest group that comes out exactly.

        `run` has so many different drawings evaluated once.
        """
        width = 1
        for wider in sorted(WIDTHS):
            if wider > most:
                break
            run(wider)
            if any(equal is None for (_, tried), equal in self._equal.items() if tried == wider):
                break
            width = wider
        return width

    def _split(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        arguments = dict(kwargs)
        names = ("sample", "timestep") if "hidden_states" not in arguments else ("hidden_states",)
        arguments.update(zip(names, args, strict=False))
        sample = "hidden_states" if "hidden_states" in arguments else "sample"
        rows = int(arguments[sample].shape[0])
        if self._beside is not None:
            beside = self._beside.repeat(rows // self._count, 1, 1, 1)
            arguments[sample] = torch.cat([arguments[sample], beside.to(arguments[sample])], dim=1)
        wanted = arguments[sample].dtype
        drawings = self._count if rows % self._count == 0 else rows
        if not self._exact:
            return (self._group(arguments, rows, list(range(rows))).to(wanted),)
        halves = rows // drawings
        kernels = (self._mode, halves, *self._inputs(arguments, rows))
        found: list[Tensor] = []
        start = 0
        while start < drawings:
            if self._check is not None:
                self._check()
            width = self._width(kernels, min(drawings - start, self._most))
            group = [
                half * drawings + row
                for half in range(halves)
                for row in range(start, start + width)
            ]
            if width > 1 and (self._equal.get((kernels, width)) or 0) < self._proof:
                part = self._trial(arguments, rows, group, (kernels, width))
            else:
                part = self._group(arguments, rows, group)
            found.append(part.reshape(halves, width, *part.shape[1:]))
            start += width
        return (torch.cat(found, dim=1).flatten(0, 1).to(wanted),)

    def _inputs(self, arguments: Mapping[str, Any], rows: int) -> Iterator[object]:
        """What kernels go by in arguments: the form of tensors (of those with rows, without their
        number), and what else is said."""
        for name, value in sorted(arguments.items()):
            if isinstance(value, dict):
                yield (name, *self._inputs(cast("dict[str, Any]", value), rows))
            elif isinstance(value, Tensor):
                by_row = _has_rows(name, value, rows)
                yield name, by_row, tuple(value.shape[by_row:]), value.dtype
            else:  # numbers would make a new case of every step
                yield name, value if isinstance(value, bool | str) else type(value)

    def _width(self, kernels: _Kernels, left: int) -> int:
        """The widest group that is exact, or that may be."""
        for width in WIDTHS:
            if width <= left and self._equal.get((kernels, width), 0) is not None:
                return width
        return 1

    def _trial(
        self, arguments: Mapping[str, Any], rows: int, group: list[int], key: tuple[_Kernels, int]
    ) -> Tensor:
        """The rows as they come out alone; remembers how the whole group compares."""
        width = key[1]
        alone = [self._group(arguments, rows, group[row::width]) for row in range(width)]
        halves = len(group) // width
        expected = torch.stack(alone, dim=1).flatten(0, 1)
        assert expected.shape[0] == halves * width
        together = self._group(arguments, rows, group)
        equal = torch.equal(together, expected)
        self._equal[key] = (self._equal.get(key) or 0) + expected.numel() if equal else None
        return expected

    def _group(self, arguments: Mapping[str, Any], rows: int, group: list[int]) -> Tensor:
        picked = {name: self._pick(name, value, rows, group) for name, value in arguments.items()}
        return self._forward(**picked)[0]

    def _pick(self, name: str, value: Any, rows: int, group: list[int]) -> Any:
        if isinstance(value, dict):
            parts = cast("dict[str, Any]", value)
            return {key: self._pick(key, part, rows, group) for key, part in parts.items()}
        if not isinstance(value, Tensor) or name in _WHOLE:
            return value
        by_row = _has_rows(name, value, rows)
        if value.is_floating_point() and value.ndim > 1:
            value = value.to(self._dtype)
        if by_row and len(group) < rows:
            value = value[group]
        # Kernels are chosen by the layout, too.
        layout = self._layout if value.ndim == 4 else torch.contiguous_format
        return value.contiguous(memory_format=layout)


def _has_rows(name: str, value: Tensor, rows: int) -> bool:
    return name not in _WHOLE and value.ndim > 0 and value.shape[0] == rows
