"""Edits of pictures that were uploaded before: JSON with `file_id`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import TOKEN, Edge
from tests.integration.gateway.test_edge_image_edits import HOLED, PLAIN, hole_of, sent_by, url
from tests.integration.gateway.test_edge_images import EDIT
from tests.integration.gateway.test_edge_vector_stores import error_of

PROMPT = {"prompt": "a cat"}


def put(edge: Edge, data: bytes = PLAIN, filename: str = "a.png") -> str:
    return edge.vectors.training.put(data, filename)


async def edited(edge: Edge, **body: Any) -> httpx.Response:
    return await edge.http.post(EDIT, json={**PROMPT, **body})


async def test_pictures_by_their_ids(edge: Edge) -> None:
    image, mask = put(edge), put(edge, HOLED)
    body = {**PROMPT, "images": [{"file_id": image}], "mask": {"file_id": mask}}
    sent = await sent_by(edge, json=body)
    assert list(sent.init_images) == [PLAIN]
    assert hole_of(sent) == (4, 2, 9, 7)
    assert edge.vectors.training.metadata[-1]["authorization"] == f"Bearer {TOKEN}"
    body = {**PROMPT, "images": [{"file_id": put(edge, HOLED)}]}
    assert hole_of(await sent_by(edge, json=body)) == (4, 2, 9, 7)


async def test_one_by_its_id_and_one_inline(edge: Edge) -> None:
    body = {**PROMPT, "images": [{"image_url": url(PLAIN)}], "mask": {"file_id": put(edge, HOLED)}}
    assert hole_of(await sent_by(edge, json=body)) == (4, 2, 9, 7)


async def test_a_large_picture_travels_in_pieces(edge: Edge) -> None:
    data = PLAIN + bytes(300_000)
    sent = await sent_by(edge, json={**PROMPT, "images": [{"file_id": put(edge, data)}]})
    assert list(sent.init_images) == [data]


@pytest.mark.parametrize("file_id", ["file-none", "a/b", "", "../x", "x" * 300])
@pytest.mark.parametrize("field", ["images[0]", "mask"])
async def test_unknown_files(edge: Edge, field: str, file_id: str) -> None:
    reference = {"file_id": file_id}
    if field == "mask":
        answer = await edited(edge, images=[{"file_id": put(edge)}], mask=reference)
    else:
        answer = await edited(edge, images=[reference])
    error = error_of(answer, 404)
    assert error["param"] == f"{field}.file_id"
    assert error["message"].startswith("No such File object:")
    assert not edge.vectors.images.requests


@pytest.mark.parametrize("filename", ["breaks", "short", "long"])
async def test_files_that_break_off(edge: Edge, filename: str) -> None:
    answer = await edited(edge, images=[{"file_id": put(edge, PLAIN, filename)}])
    assert answer.status_code in (500, 503), answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert not edge.vectors.images.requests


async def test_empty_files_and_two_pictures_in_one_reference(edge: Edge) -> None:
    empty = error_of(await edited(edge, images=[{"file_id": put(edge, b"")}]))
    assert empty["param"] == "images[0].file_id"
    both = error_of(await edited(edge, images=[{"file_id": put(edge), "image_url": url(PLAIN)}]))
    assert both["param"] == "images[0]"


@pytest.mark.parametrize("image", [b"no picture at all", b"\x89PNG\r\n\x1a\n" * 9])
async def test_a_mask_that_is_no_picture(edge: Edge, image: bytes) -> None:
    answer = await edited(edge, images=[{"file_id": put(edge)}], mask={"file_id": put(edge, image)})
    assert error_of(answer)["param"] == "mask.file_id"


async def test_what_the_service_refuses_names_the_file(edge: Edge) -> None:
    prompt = "fails-INVALID_ARGUMENT-init_images[0]"
    answer = await edited(edge, prompt=prompt, images=[{"file_id": put(edge)}])
    assert error_of(answer)["param"] == "images[0].file_id"


async def test_a_client_that_leaves_ends_the_reading(edge: Edge) -> None:
    body = b'{"prompt":"x","images":[{"file_id":"%s"}]}' % put(edge, PLAIN, "waits").encode()
    peer = edge.vectors.training
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    head = (
        f"POST {EDIT} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await edge.backend.until(lambda: peer.sent > 0)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)
    assert not edge.vectors.images.requests


class TestSmallBodies:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"max_body_bytes": 10_000}

    async def test_files_have_the_room_that_a_body_has(self, edge: Edge) -> None:
        image = put(edge, HOLED + bytes(6_000))
        assert (await edited(edge, images=[{"file_id": image}])).status_code == 200
        masked = await edited(edge, images=[{"file_id": image}], mask={"file_id": image})
        error = error_of(masked)
        assert error["param"] == "mask.file_id"
        large = put(edge, HOLED + bytes(10_000))
        error = error_of(await edited(edge, images=[{"file_id": large}]))
        assert error["param"] == "images[0].file_id"
        assert "10000 bytes" in error["message"]
        assert edge.vectors.training.sent < 3 * 7_000
