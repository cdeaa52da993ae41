"""Certificates in files (PEM): read together, and again once they change."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)
_Stamp = tuple[tuple[int, int, int] | None, ...]


class TlsFileError(Exception):
    """A certificate or key can't be used."""


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files hold; None for those that there are not."""

    certificate: bytes | None = None
    """The own certificate and its chain."""
    key: bytes | None = None
    """Its private key."""
    ca: bytes | None = None
    """Authorities that others are checked against."""


class PemFiles:
    """Files that belong together. May be asked from several threads."""

    def __init__(
        self, *, certificate: Path | None = None, key: Path | None = None, ca: Path | None = None
    ) -> None:
        """Takes where they are."""
        self._paths = (key, certificate, ca)
        self._lock = threading.Lock()
        self._stamp: _Stamp = ()
        self._held = Pems()
        self._complained: _Stamp = ()

    def read(self) -> Pems:
        """Reads them. Raises `TlsFileError`."""
        with self._lock:
            self._stamp = self._look()
            self._held = self._read()
            return self._held

    def news(self) -> Pems | None:
        """Returns what they hold if that has changed since they were read last.

        While a new certificate has come and its key has not, or one of them can't be read, what was
        read before holds.
        """
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            try:
                found = self._read()
                _check_pair(found)
            except (TlsFileError, ValueError) as error:
                if stamp != self._complained:
                    self._complained = stamp
                    _log.warning("New certificates can't be used, the last ones stay: %s", error)
                return None
            self._stamp = stamp
            if found == self._held:
                return None
            self._held = found
        _log.info("New certificates are used: %s", ", ".join(map(str, filter(None, self._paths))))
        return found

    def _look(self) -> _Stamp:
        return tuple(_stamp(path) for path in self._paths)

    def _read(self) -> Pems:
        key, certificate, ca = map(_bytes, self._paths)
        return Pems(certificate, key, ca)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{path} can't be read: {error.strerror}") from error


def _check_pair(pems: Pems) -> None:
    """Raises `ValueError` unless the key is that of the certificate."""
    # Only who is given new certificates looks into them: it takes a while to import.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if pems.ca is not None:
        x509.load_pem_x509_certificates(pems.ca)
    if pems.certificate is None:
        return
    shown = x509.load_pem_x509_certificates(pems.certificate)[0].public_key()
    if pems.key is None:
        return
    held = serialization.load_pem_private_key(pems.key, None).public_key()
    if held != shown:
        raise ValueError("the key is not that of the certificate")
