"""An edge is ready once it can tell keys: `/health` says so, and `penstock serve` waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway import key_feed as feeds
from gateway.settings import Settings
from services.cli.ready import until_answering
from tests.integration.gateway.batch_stack import key_feed
from tests.integration.gateway.conftest import live_edge


def settings(folder: Path, address: str, service_token: str = "service") -> Settings:
    addresses = dict.fromkeys(Settings().addresses, address)
    return Settings(data_dir=folder, addresses=addresses, service_token=service_token)


async def test_it_waits_for_the_word_of_keys(tmp_path: Path) -> None:
    async with key_feed() as feed:
        feed.told.clear()
        async with (
            live_edge(settings(tmp_path, feed.address)) as (_, _, host, port),
            httpx.AsyncClient(base_url=f"http://{host}:{port}") as http,
        ):
            unknown = {"authorization": "Bearer pnstk_unknown"}
            assert (await http.get("/v1/models", headers=unknown)).status_code == 503
            answer = await http.get("/health")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)
            waiting = asyncio.create_task(until_answering(f"{host}:{port}"))
            feed.told.set()
            await asyncio.wait_for(waiting, 30)
            assert (await http.get("/health")).json()["ready"] is True
            assert (await http.get("/v1/models", headers=unknown)).status_code == 401


@pytest.mark.parametrize("service_token", ["service", ""])
async def test_it_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service_token: str
) -> None:
    """Nobody answers, or there is nothing to ask with: it does what it can."""
    if service_token:
        monkeypatch.setattr(feeds, "_PATIENCE_S", 0.0)
    async with live_edge(settings(tmp_path, "127.0.0.1:1", service_token)) as (_, _, host, port):
        await asyncio.wait_for(until_answering(f"{host}:{port}"), 30)
