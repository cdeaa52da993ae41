"""Vectors on their way to and from Postgres."""

from typing import Any

import numpy as np
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.types import UserDefinedType

from services.retrieval.records import Vector


class VectorColumn(UserDefinedType[Vector]):
    """pgvector's `vector`, of so many dimensions."""

    cache_ok = True

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def get_col_spec(self, **_: object) -> str:
        """Names the type."""
        return f"vector({self.dimensions:d})"


class HalfVectorColumn(VectorColumn):
    """pgvector's `halfvec`: half the precision, twice the dimensions in an index."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """Names the type."""
        return f"halfvec({self.dimensions:d})"


def prepare_vectors(connection: DBAPIConnection, _record: object) -> None:
    """Has a new connection send vectors as bytes, and search without delay."""
    connection.run_async(_prepare)


async def _prepare(connection: Any) -> None:
    # Compiling a search takes longer than running it.
    await connection.execute("SET jit = off")
    schema = await connection.fetchval(
        "SELECT n.nspname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
        "JOIN pg_extension e ON e.extname = 'vector' AND e.extnamespace = n.oid "
        "WHERE t.typname = 'vector'"
    )
    if schema is not None:  # it is missing until the store has been opened once
        await connection.set_type_codec(
            "vector", schema=schema, encoder=_encoded, decoder=_decoded, format="binary"
        )


def _encoded(vector: Vector) -> bytes:
    # Two bytes of length, two unused, then big-endian numbers.
    return len(vector).to_bytes(2, "big") + b"\0\0" + vector.astype(">f4").tobytes()


def _decoded(raw: bytes) -> Vector:
    return np.frombuffer(raw, ">f4", offset=4).astype(np.float32)
