"""Every way of keeping blobs: one suite, the same answers."""

import asyncio
import os
import resource
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.blobs.folder import FolderBlobs
from services.blobs.objects import ObjectBlobs
from services.blobs.opening import S3Access, open_blobs
from services.blobs.port import PIECE_BYTES, Blobs, check_key
from services.errors import NotFound, StorageFull, Unavailable

KEY = "files/file-a"


class Store:
    """What keeps blobs, and a look behind it."""

    def __init__(self, blobs: Blobs, names: Callable[[], list[str]]) -> None:
        self.blobs = blobs
        self.names = names


@pytest.fixture(params=["folder", "objects"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "folder":
        folder = tmp_path / "blobs"
        blobs: Blobs = FolderBlobs(folder)
        opened = Store(blobs, lambda: [str(p) for p in folder.rglob("*") if p.is_file()])
    else:
        system: Any = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        blobs = ObjectBlobs(system, "/bucket/prefix")
        opened = Store(blobs, lambda: list(system.store))
    yield opened
    await blobs.close()


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def read(blobs: Blobs, key: str = KEY, **part: Any) -> bytes:
    return b"".join([piece async for piece in blobs.get(key, **part)])


async def test_what_is_put_is_got(store: Store) -> None:
    await store.blobs.put(KEY, pieces(b"one", b"", b"two"))
    assert await read(store.blobs) == b"onetwo"
    assert await store.blobs.size(KEY) == 6
    assert len(store.names()) == 1


async def test_a_blob_may_be_empty(store: Store) -> None:
    await store.blobs.put(KEY, pieces())
    assert await store.blobs.size(KEY) == 0
    assert await read(store.blobs) == b""


async def test_a_blob_is_replaced(store: Store) -> None:
    await store.blobs.put(KEY, pieces(b"a longer one"))
    await store.blobs.put(KEY, pieces(b"another"))
    assert await read(store.blobs) == b"another"
    assert len(store.names()) == 1


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.lists(st.binary(max_size=40), max_size=5), offset=st.integers(0, 250), data=st.data()
)
async def test_parts_are_those_of_the_whole(
    store: Store, content: Sequence[bytes], offset: int, data: st.DataObject
) -> None:
    whole = b"".join(content)
    length = data.draw(st.none() | st.integers(0, 250))
    await store.blobs.put(KEY, pieces(*content))
    end = None if length is None else offset + length
    assert await read(store.blobs, offset=offset, length=length) == whole[offset:end]


async def test_pieces_are_bounded(store: Store) -> None:
    whole = os.urandom(5 * PIECE_BYTES + 3)
    await store.blobs.put(KEY, pieces(whole))
    got = [piece async for piece in store.blobs.get(KEY, offset=1)]
    assert b"".join(got) == whole[1:]
    assert max(map(len, got)) <= PIECE_BYTES


async def test_what_is_missing_is_told(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.blobs.size(KEY)
    with pytest.raises(NotFound):
        await read(store.blobs)
    await store.blobs.delete(KEY)


async def test_deleted_is_gone(store: Store) -> None:
    await store.blobs.put(KEY, pieces(b"x"))
    await store.blobs.delete(KEY)
    assert store.names() == []
    with pytest.raises(NotFound):
        await read(store.blobs)


async def test_an_upload_that_breaks_leaves_nothing(store: Store) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x" * PIECE_BYTES
        assert not any("file-a" in name and ".incoming" not in name for name in store.names())
        raise LookupError("no more")

    with pytest.raises(LookupError):
        await store.blobs.put(KEY, breaking())
    assert store.names() == []


async def test_an_upload_that_breaks_leaves_the_blob_before_it(store: Store) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"other"
        raise LookupError("no more")

    await store.blobs.put(KEY, pieces(b"first"))
    with pytest.raises(LookupError):
        await store.blobs.put(KEY, breaking())
    assert await read(store.blobs) == b"first"


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_a_cancelled_upload_leaves_nothing(store: Store, turns: int) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            begun.set()
            yield b"x" * 1000

    putting = asyncio.create_task(store.blobs.put(KEY, endless()))
    await begun.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert store.names() == []


async def test_files_are_closed(store: Store) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError

    await store.blobs.put(KEY, pieces(b"x" * 3 * PIECE_BYTES))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await store.blobs.put("files/other", pieces(b"x"))
        with pytest.raises(LookupError):
            await store.blobs.put("files/broken", breaking())
        async for _piece in (reading := store.blobs.get(KEY)):
            break
        await reading.aclose()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "files/../../x",
        "files/..",
        "files//x",
        "files/",
        "files/.hidden",
        ".incoming/files/file-a",
        "files/a\0b",
        "files/a\n",
        "files\\x",
        "files/ä",
        "a" * 129,
        "/".join("a" * 9),
    ],
)
async def test_no_key_leads_elsewhere(store: Store, key: str) -> None:
    for call in (
        store.blobs.put(key, pieces(b"x")),
        store.blobs.size(key),
        store.blobs.delete(key),
        read(store.blobs, key),
    ):
        with pytest.raises(ValueError, match="no key"):
            await call
    assert store.names() == []


@settings(deadline=None)
@given(st.text(alphabet="ab./\\%~-_ \0", max_size=12))
def test_keys_that_pass_stay_below_the_folder(key: str) -> None:
    try:
        check_key(key)
    except ValueError:
        return
    root = Path("/srv/blobs")
    assert os.path.normpath(root / key) == str(root / key)


class TestFolders:
    async def test_a_link_in_the_place_of_a_blob_is_not_followed(self, tmp_path: Path) -> None:
        blobs = FolderBlobs(tmp_path / "blobs")
        secret = tmp_path / "secret"
        secret.write_text("secret")
        (tmp_path / "blobs" / "files").mkdir()
        (tmp_path / "blobs" / KEY).symlink_to(secret)
        with pytest.raises(Unavailable):
            await read(blobs)
        await blobs.put(KEY, pieces(b"new"))
        assert secret.read_text() == "secret"
        assert await read(blobs) == b"new"

    async def test_a_reader_reads_to_the_end_what_is_deleted_meanwhile(
        self, tmp_path: Path
    ) -> None:
        blobs = FolderBlobs(tmp_path / "blobs")
        whole = os.urandom(3 * PIECE_BYTES)
        await blobs.put(KEY, pieces(whole))
        got = b""
        async for piece in blobs.get(KEY):
            got += piece
            await blobs.delete(KEY)
        assert got == whole

    async def test_nobody_else_may_look(self, tmp_path: Path) -> None:
        blobs = FolderBlobs(tmp_path / "blobs")
        await blobs.put(KEY, pieces(b"x"))
        assert (tmp_path / "blobs" / KEY).stat().st_mode & 0o077 == 0

    async def test_a_quota_that_is_used_up_is_told(self, tmp_path: Path) -> None:
        blobs = FolderBlobs(tmp_path / "blobs")
        with _files_of_at_most(100_000), pytest.raises(StorageFull, match="full"):
            await blobs.put(KEY, pieces(b"x" * 200_000))
        assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []

    async def test_a_full_disk_is_told(self, tmp_path: Path) -> None:
        with _small_disk(tmp_path / "disk"):
            blobs = FolderBlobs(tmp_path / "disk" / "blobs")
            with pytest.raises(StorageFull, match="full"):
                await blobs.put(KEY, pieces(*[b"x" * 100_000] * 20))
            # What did not fit takes no room.
            await blobs.put(KEY, pieces(b"x" * 500_000))
            assert await blobs.size(KEY) == 500_000
            await blobs.close()

    def test_a_folder_that_can_not_be_used_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="can't be used"):
            open_blobs(tmp_path / "file")


class TestObjectStores:
    async def test_troubles_of_the_network_are_told_without_details(self) -> None:
        class Broken(MemoryFileSystem):
            def open(self, *_: Any, **__: Any) -> Any:
                raise ConnectionError("10.0.0.1 refused")

            def info(self, *_: Any, **__: Any) -> Any:
                raise PermissionError("key AKIA… may not")

        blobs = ObjectBlobs(Broken(skip_instance_cache=True), "bucket")
        for call in (blobs.put(KEY, pieces(b"x")), blobs.size(KEY)):
            with pytest.raises(Unavailable) as caught:
                await call
            assert "10.0.0.1" not in caught.value.message
            assert "AKIA" not in caught.value.message

    @pytest.mark.parametrize(
        "url", ["ftp://host/x", "s3://", "file:///etc", "memory://x", "bucket/prefix", "s3://b?x=1"]
    )
    def test_other_urls_are_refused(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="s3://bucket/prefix"):
            open_blobs(tmp_path, url, S3Access())


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of 1 MiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only who may mount can try a full disk")
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        yield
