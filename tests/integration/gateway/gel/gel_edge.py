"""Callers of an edge before Gel's dialect."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, cast

from policy.principals import Role
from policy.token_file import TokenFile, ensure_admin_key
from tests.integration.gateway.answering_peer import AnsweringPeer
from tests.integration.gateway.conftest import TOKEN, Edge

SERVICE = "service-token"
RAG = "/branch/main/ai/rag"
EMBEDDINGS = "/branch/main/ai/embeddings"

__all__ = ["EMBEDDINGS", "RAG", "SERVICE", "TOKEN", "Keys", "basic", "bearer", "peer_of", "rag"]


def peer_of(edge: Edge) -> AnsweringPeer:
    """The retrieval service behind an edge."""
    return cast("AnsweringPeer", edge.vectors.retrieval)


class Keys:
    """Keys of the edge's data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.file = TokenFile(data_dir / "tokens.json")
        self.admin, _ = ensure_admin_key(data_dir)
        self.acme = self.file.create("a", [Role.USER], tenants=["acme"])[1]
        self.main = self.file.create("m", [Role.USER], tenants=["main", "default"])[1]
        entry, self.alice = self.file.create("al", [Role.USER], gel_user="alice")
        self.alice_id = entry.id


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def basic(user: str, key: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def rag(model: str = "words", query: str = "once upon", **changes: Any) -> dict[str, Any]:
    return {"context": {"query": "Astronomy"}, "model": model, "query": query, **changes}
