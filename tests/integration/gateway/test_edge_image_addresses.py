"""Addresses of pictures are refused, and nobody goes there."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_image_edits import PLAIN, url
from tests.integration.gateway.test_edge_images import EDIT
from tests.integration.gateway.test_edge_vector_stores import error_of


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody who would answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener


def nobody_came(listener: socket.socket) -> bool:
    """Connections that were made wait in the backlog, whether or not they are still open."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP", "ftp"])
@pytest.mark.parametrize("field", ["images[0]", "mask"])
async def test_no_picture_is_fetched(
    edge: Edge, listener: socket.socket, scheme: str, field: str
) -> None:
    there = {"image_url": f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/a.png"}
    body = {"prompt": "a cat", "images": [{"image_url": url(PLAIN)}]}
    body |= {"mask": there} if field == "mask" else {"images": [there]}
    error = error_of(await edge.http.post(EDIT, json=body))
    assert error["param"] == f"{field}.image_url"
    assert not edge.vectors.images.requests
    assert nobody_came(listener)


@pytest.mark.parametrize("field", ["init_images", "mask"])
async def test_no_picture_is_fetched_for_webui_clients(
    edge: Edge, listener: socket.socket, field: str
) -> None:
    there = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
    given = url(PLAIN)
    body = {"prompt": "a cat", "init_images": [given]}
    body |= {"mask": there} if field == "mask" else {"init_images": [there]}
    answer = await edge.http.post("/sdapi/v1/img2img", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert not edge.vectors.images.requests
    assert nobody_came(listener)


def test_who_comes_is_seen(listener: socket.socket) -> None:
    socket.create_connection(listener.getsockname()).close()
    assert not nobody_came(listener)
