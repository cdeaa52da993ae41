"""What is stored is whole, whatever happens to processes; and the schema is what it should be."""

from __future__ import annotations

import asyncio
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text

from services.errors import Unavailable
from services.retrieval.indexes.embedded_tables import tables_of
from services.retrieval.indexes.postgres_tables import table_of
from services.retrieval.records import Lookup, Page, SearchMode
from services.retrieval.stores import open_store
from services.retrieval.stores.database import create_engine
from services.retrieval.stores.tables import COLLECTIONS, DOCUMENTS, METADATA, TEXTS, VERSION_TABLE
from tests.conformance.retrieval.conftest import Settings
from tests.conformance.retrieval.records_made import collection, document, vector
from tests.postgres_server import empty_database


async def check(url: str, uid: str) -> int:
    """Asserts that everything belongs together; returns how many documents there are."""
    engine = create_engine(url)
    async with engine.connect() as connection:
        run = connection.execute
        owner = (await run(select(COLLECTIONS).where(COLLECTIONS.c.uid == uid))).mappings().one()
        own = DOCUMENTS.c.collection == owner["key"]
        documents = (await run(select(DOCUMENTS).where(own))).mappings().all()
        texts = select(func.count()).select_from(TEXTS).where(TEXTS.c.collection == owner["key"])
        assert await connection.scalar(texts) == len(documents)
        sqlite = engine.dialect.name == "sqlite"
        chunks = tables_of(owner["key"]).chunks if sqlite else table_of(owner["key"], 4)
        found = (await run(select(chunks).order_by(chunks.c.id))).mappings().all()
        if sqlite:
            words = tables_of(owner["key"]).words
            indexed = (await run(select(words.c.rowid, words.c.words))).all()
            assert dict(indexed) == {row["id"]: row["text"] for row in found}
            await run(text(f"INSERT INTO {words.name}({words.name}) VALUES ('integrity-check')"))
    await engine.dispose()
    wanted = {
        (row["number"], row["first_chunk"] + at, at)
        for row in documents
        for at in range(row["chunk_count"])
    }
    assert {(row["document"], row["id"], row["position"]) for row in found} == wanted
    assert len(found) == len(wanted)
    assert (owner["document_count"], owner["chunk_count"]) == (len(documents), len(found))
    for name in ("size_bytes", "word_count"):
        assert owner[name] == sum(row[name] for row in documents)
    # All chunks of a document are of one turn.
    turns = {(row["document"], row["text"].split()[0]) for row in found}
    assert len(turns) == len(documents)
    return len(documents)


async def test_a_killed_writer_leaves_whole_documents(store, kind, tenant):
    made = await store.create_collection(collection(tenant))
    module = "tests.conformance.retrieval.writer"
    seen = 0
    for patience in (2, 3, 5):
        writers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, kind.url, made.uid),
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        # Both write at once, and are killed in the middle of whatever they do.
        for writer in writers:
            for _ in range(patience):
                assert await writer.stdout.readline(), "a writer failed"
        for writer in writers:
            writer.kill()
            await writer.wait()
        seen += await check(kind.url, made.uid)
        listed = await store.documents(made.uid, Page(100), with_text=False)
        for mode in SearchMode:
            lookup = Lookup(1000, vector(1, 0, 0, 0), "chunk0", mode)
            hits = await store.search(made, lookup)
            assert {hit.document for hit in hits} == {found.id for found in listed}
        await store.put_documents(made.uid, [document("after", ["after chunk0"])])
    assert seen > 0


async def test_migrations_make_the_schema_that_the_tables_say(store, kind):
    def differences(connection):
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": VERSION_TABLE,
                "compare_type": False,
                # Chunks have tables that come and go with collections.
                "include_name": lambda name, kind, _: kind != "table" or name in METADATA.tables,
            },
        )
        return compare_metadata(context, METADATA)

    engine = create_engine(kind.url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_a_schema_of_a_later_release_is_refused(new_file):
    await (await open_store(new_file, Settings())).close()
    engine = create_engine(new_file)
    async with engine.begin() as connection:
        await connection.execution_options(penstock_write=True)
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(ValueError, match="later release"):
        await open_store(new_file, Settings())


async def test_opening_at_once(new_file, tenant):
    stores = await asyncio.gather(*(open_store(new_file, Settings()) for _ in range(4)))
    await stores[0].create_collection(collection(tenant))
    assert (await stores[3].collection(tenant, "c")).id == "c"
    for opened in stores:
        await opened.close()


async def test_a_database_that_is_away(tmp_path):
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(Unavailable):
        await open_store(f"sqlite:///{tmp_path / 'folder.db'}", Settings())
    with pytest.raises(Unavailable):
        await open_store(f"postgresql://postgres@/x?host={tmp_path}", Settings())
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://x/y"):
        with pytest.raises(ValueError, match="ocuments"):
            await open_store(url, Settings())


async def test_postgres_without_the_right_to_install_pgvector(postgres):
    async with empty_database(postgres) as url:
        engine = create_engine(url)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE ROLE limited LOGIN"))
            await connection.execute(text("GRANT CREATE ON SCHEMA public TO limited"))
        limited = url.replace("postgres@", "limited@")
        try:
            with pytest.raises(ValueError, match="CREATE EXTENSION vector;"):
                await open_store(limited, Settings())
            async with engine.begin() as connection:
                await connection.execute(text("CREATE EXTENSION vector"))
            await (await open_store(limited, Settings())).close()
        finally:
            async with engine.begin() as connection:
                await connection.execute(text("DROP OWNED BY limited"))
                await connection.execute(text("DROP ROLE limited"))
            await engine.dispose()


async def test_a_large_collection_gets_an_approximate_index(store, kind, tenant):
    made = await store.create_collection(collection(tenant))
    await store.put_documents(made.uid, [document("a", ["x"] * 50)])
    if kind.name == "postgres-hnsw":
        engine = create_engine(kind.url)
        async with engine.connect() as connection:
            key = await connection.scalar(
                select(COLLECTIONS.c.key).where(COLLECTIONS.c.uid == made.uid)
            )
            query = "SELECT indexdef FROM pg_indexes WHERE indexname = :name"
            name = f"retrieval_chunks_{key}_vector"
            definition = await connection.scalar(text(query), {"name": name})
        await engine.dispose()
        assert "hnsw" in definition
        assert "vector_cosine_ops" in definition
    assert len(await store.search(made, Lookup(50, vector(0, 1, 0, 0)))) == 50
