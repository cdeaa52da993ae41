"""The keys that an identity provider signs tokens with: from a file or a URL, kept for a while.

A URL is asked in a thread, within bounds of time and size, when its keys are old, or when a token
names one that is not known: so keys may rotate. While the provider is away, its last keys stay.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import jwt

_log = logging.getLogger(__name__)

_FETCH_S = 5.0
_MOST_BYTES = 1024 * 1024
_CHUNK = 64 * 1024
_PAUSE_S = 10.0
"""Least time between two fetches that unknown keys ask for."""
_LEAST_RSA_BITS = 2048
_RECHECK_S = 1.0


class KeysWantedError(Exception):
    """A token can't be judged with the keys at hand: await `refresh`, then ask again."""

    def __init__(self, source: UrlKeys) -> None:
        super().__init__("keys of the identity provider are wanted")
        self._source = source

    async def refresh(self) -> None:
        """Fetches the keys; never fails, and takes some seconds at most."""
        await self._source.refresh()


class KeySource(Protocol):
    """Has the keys of a provider."""

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Returns the keys that a token may be signed with.

        Raises:
            KeysWantedError: newer keys are to be fetched first.
        """
        ...

    @property
    def known(self) -> bool:
        """Whether there ever were any."""
        ...


class FileKeys:
    """Keys in a file, which is read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises `ValueError` when it holds no keys."""
        self._path = path
        self._stamp = self._look()
        self._keys = read_keys(path.read_bytes())
        self._checked = time.monotonic()
        self.known = True

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Returns the keys that a token may be signed with."""
        if time.monotonic() - self._checked >= _RECHECK_S:
            self._checked = time.monotonic()
            self._reload()
        return matching(self._keys, kid, algorithm)

    def _reload(self) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._keys = read_keys(self._path.read_bytes())
        except (OSError, ValueError) as error:
            _log.error("%s can't be read (%s); the keys read before stay", self._path, error)

    def _look(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


class UrlKeys:
    """Keys behind a URL."""

    def __init__(self, url: str, *, cache_s: float, fetch: Callable[[str], bytes] | None = None):
        self._url = url
        self._cache_s = cache_s
        self._fetch = fetch or fetch_bytes
        self._keys: Sequence[jwt.PyJWK] = ()
        self._fetched = -float("inf")
        self._tried = -float("inf")
        self._running: asyncio.Task[None] | None = None
        self.known = False

    def find(self, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Returns the keys that a token may be signed with."""
        now = time.monotonic()
        found = matching(self._keys, kid, algorithm)
        age = now - self._fetched
        # Old keys serve while newer ones are on their way, but not for ever.
        wanted = not found or age > 2 * self._cache_s
        if wanted and (self._running is not None or now - self._tried >= _PAUSE_S):
            raise KeysWantedError(self)
        if age > self._cache_s and now - self._tried >= _PAUSE_S:
            self._begin()
        return found

    async def refresh(self) -> None:
        """Fetches the keys, once for all who want them."""
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._running is None:
            self._tried = time.monotonic()
            self._running = asyncio.create_task(self._renew(), name="jwks")
        return self._running

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(2 * _FETCH_S):
                keys = read_keys(await asyncio.to_thread(self._fetch, self._url))
        except (OSError, ValueError, TimeoutError, http.client.HTTPException) as error:
            _log.warning("keys of the identity provider can't be fetched: %s", error)
        else:
            self._keys, self._fetched, self.known = keys, time.monotonic(), True
        finally:
            self._running = None


def check_url(url: str) -> None:
    """Raises `ValueError` unless it is an `https:` URL, or an `http:` one of this machine."""
    parsed = urllib.parse.urlsplit(url)
    local = parsed.hostname in ("127.0.0.1", "::1", "localhost")
    if not parsed.hostname or not (parsed.scheme == "https" or (parsed.scheme == "http" and local)):
        raise ValueError("it must be an https URL; http is for this machine alone")


def fetch_bytes(url: str) -> bytes:
    """Gets a URL within bounds of time and size, and follows no redirect. Raises `OSError` or
    `ValueError`."""
    end = time.monotonic() + _FETCH_S
    opener = urllib.request.build_opener(_NoRedirects)
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with opener.open(request, timeout=_FETCH_S) as response:
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes came")
            if time.monotonic() > end:
                raise TimeoutError(f"it took longer than {_FETCH_S:g} s")
        return bytes(data)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leads nowhere but where the configuration says."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def read_keys(data: bytes) -> list[jwt.PyJWK]:
    """Reads a JSON Web Key Set; what can't verify signatures is left out.

    Raises:
        ValueError: it is none, or nothing is left.
    """
    try:
        document: Any = json.loads(data)
    except RecursionError:
        raise ValueError("it is not a JSON Web Key Set") from None
    entries: Any = (
        cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
    )
    if not isinstance(entries, list):
        raise ValueError('it must look like {"keys": [...]}')
    keys = [key for entry in cast("list[object]", entries) if (key := _read_key(entry)) is not None]
    if not keys:
        raise ValueError("it has no key that verifies signatures")
    return keys


def _read_key(entry: object) -> jwt.PyJWK | None:
    if not isinstance(entry, dict):
        return None
    fields = cast("dict[str, Any]", entry)
    if fields.get("use", "sig") != "sig" or fields.get("kty") not in ("RSA", "EC", "OKP"):
        return None  # among them secrets shared with the provider: with one, we could sign
    # Only who has keys to read needs what reads them: that takes a while to import.
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    public = {name: value for name, value in fields.items() if name != "d"}
    try:
        key = jwt.PyJWK(public)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < _LEAST_RSA_BITS:
        return None
    return key


def matching(keys: Sequence[jwt.PyJWK], kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
    """Returns the keys of an algorithm that have an ID; without one, all of the algorithm."""
    return [
        key
        for key in keys
        if key.algorithm_name == algorithm and (kid is None or key.key_id == kid)
    ]
