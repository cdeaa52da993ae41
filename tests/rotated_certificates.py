"""Certificates of one workload in a folder, replaced as an agent replaces them."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from tests.integration.access.certificates import Authority

LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


class CertificateFolder:
    """`tls.crt`, `tls.key` and `ca.crt` (who is believed), by the names that Kubernetes gives."""

    def __init__(self, folder: Path, spiffe_id: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.ca = folder / "ca.crt"
        self._names: list[x509.GeneralName] = [*LOCAL]
        if spiffe_id:
            self._names.append(x509.UniformResourceIdentifier(spiffe_id))

    def fill(self, authority: Authority, *trusted: Authority) -> None:
        """Puts new ones there, one after the other; `trusted` are believed, or who signed these."""
        certificate, key = authority.issue(f"{self.folder.name}-new", *self._names)
        authorities = b"".join(one.file.read_bytes() for one in trusted or (authority,))
        contents = (authorities, certificate.read_bytes(), key.read_bytes())
        for path, content in zip((self.ca, self.certificate, self.key), contents, strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(content)
            os.replace(new, path)
