"""Arithmetic on vectors as they travel: little-endian float32."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WIRE = np.dtype("<f4")


def normalized(vectors: Sequence[bytes]) -> list[bytes]:
    """Scales vectors to length 1; those of length 0 stay."""
    return _written(_scaled(_read(vectors)))


def shortened(vectors: Sequence[bytes], dimensions: int, *, normalize: bool) -> list[bytes]:
    """Keeps the first dimensions, scaled to length 1 if asked for."""
    cut = _read(vectors)[:, :dimensions]
    return _written(_scaled(cut) if normalize else cut)


def similarities(query: bytes, documents: Sequence[bytes]) -> list[float]:
    """Cosine of the query with each document, moved to [0, 1]; 0.5 is unrelated."""
    cosines = _scaled(_read(documents)) @ _scaled(_read([query]))[0]
    return np.clip((1 + cosines) / 2, 0, 1).tolist()


def _read(vectors: Sequence[bytes]) -> NDArray[np.float64]:
    """One row a vector; in double precision, so that large numbers don't overflow when squared."""
    numbers = np.frombuffer(b"".join(vectors), _WIRE)
    return numbers.reshape(len(vectors), -1).astype(np.float64)


def _scaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def _written(rows: NDArray[np.float64]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(rows, _WIRE)]
