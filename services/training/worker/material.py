"""Reads a job's examples into columns of tokens."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow
from datasets import Dataset

from services.errors import InvalidArgument
from services.training.examples import (
    BadLine,
    ChatExample,
    CompletionExample,
    Example,
    Format,
    PreferenceExample,
    read,
)
from services.training.worker.failures import Failed
from services.training.worker.rows import Pair, Row, RowMaker, cut_pair, cut_row

_arrow = cast("Any", pyarrow)  # which has no types
_LOOK_EVERY = 64
"""Examples between two looks at what the service wants."""


@dataclass(frozen=True, slots=True)
class Material:
    """Examples that are ready to be trained on."""

    rows: Dataset
    """Columns as the trainers of trl take them."""
    tokens: Sequence[int]
    """Of each row, as the model reads it."""
    lengths: Sequence[int]
    """Of each row's longest sequence."""
    cut_count: int
    """Examples that were too long."""
    dropped_count: int
    """Examples of which nothing was left to learn."""


def read_material(
    path: Path,
    format: Format,
    maker: RowMaker,
    *,
    most_tokens: int,
    param: str,
    look: Callable[[], None],
) -> Material:
    """Reads a file of examples.

    Args:
        path: of the file.
        format: of its lines.
        maker: of rows.
        most_tokens: of a row; longer ones are cut at the end.
        param: the job's field that names the file.
        look: called now and then; it may raise to end the reading.

    Raises:
        Failed: an example can't be used, or none can.
    """
    rows: list[Row | Pair] = []
    cut = dropped = 0
    for number, example in enumerate(_examples(path, format, param), start=1):
        if number % _LOOK_EVERY == 0:
            look()
        try:
            made = _rows(example, maker)
        except InvalidArgument as error:
            raise Failed(_code(param), f"Example {number}: {error.message}", param) from error
        kept = [short for row in made if (short := _cut(row, most_tokens)) is not None]
        cut += any(row.length > most_tokens for row in made)
        dropped += not kept
        rows += kept
    if not rows:
        raise Failed(
            _code(param),
            f"Nothing to learn is left of the examples: none has words of the assistant within "
            f"its first {most_tokens} tokens. Raise max_sequence_tokens, or shorten them.",
            param,
        )
    return Material(
        rows=Dataset(_table(rows)),
        tokens=[row.token_count for row in rows],
        lengths=[row.length for row in rows],
        cut_count=cut,
        dropped_count=dropped,
    )


def _examples(path: Path, format: Format, param: str) -> Iterable[Example]:
    try:
        yield from read(path, format)
    except BadLine as error:
        raise Failed(_code(param), f"The file can't be read: {error}", param) from error


def _code(param: str) -> str:
    return f"invalid_{'validation' if 'validation' in param else 'training'}_file"


def _rows(example: Example, maker: RowMaker) -> Sequence[Row | Pair]:
    match example:
        case ChatExample():
            return maker.chat(example)
        case CompletionExample():
            return maker.completion(example)
        case PreferenceExample():
            return [maker.preference(example)]


def _cut(row: Row | Pair, most: int) -> Row | Pair | None:
    return cut_row(row, most) if isinstance(row, Row) else cut_pair(row, most)


def _table(rows: Sequence[Row | Pair]) -> Any:
    if isinstance(rows[0], Row):
        columns = {"input_ids": "ids", "labels": "labels"}
    else:
        columns = {"prompt_ids": "prompt", "chosen_ids": "chosen", "rejected_ids": "rejected"}
    return _arrow.table(
        {name: _column([getattr(row, part) for row in rows]) for name, part in columns.items()}
    )


def _column(lists: Sequence[Sequence[int]]) -> Any:
    """A column of lists, without the detour by way of Python's own numbers."""
    ends = np.fromiter(accumulate(map(len, lists), initial=0), dtype=np.int64)
    values = np.fromiter(chain.from_iterable(lists), dtype=np.int32, count=int(ends[-1]))
    return _arrow.LargeListArray.from_arrays(_arrow.array(ends), _arrow.array(values))
