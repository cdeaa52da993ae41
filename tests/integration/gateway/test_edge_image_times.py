"""A caller's own limit of time, `X-Request-Timeout`, on every route that draws."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.image_peer import picture
from tests.integration.gateway.test_edge_images import DRAW, EDIT, events

PICTURE = picture(3)
ENCODED = base64.b64encode(PICTURE).decode()
WAITING = {"prompt": "waiting"}
FORM = {"files": {"image": PICTURE}, "data": WAITING}
EDITED = {"json": {**WAITING, "images": [{"image_url": f"data:image/png;base64,{ENCODED}"}]}}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    (DRAW, {"json": WAITING}),
    (EDIT, FORM),
    (EDIT, EDITED),
    ("/v1/images/variations", {"files": {"image": PICTURE}, "data": {"model": "waiting"}}),
    ("/sdapi/v1/txt2img", {"json": WAITING}),
    ("/sdapi/v1/img2img", {"json": {**WAITING, "init_images": [ENCODED]}}),
    ("/generate-image", {"json": WAITING}),
]
STREAMS: list[tuple[str, dict[str, Any]]] = [
    (DRAW, {"json": {**WAITING, "stream": True}}),
    (EDIT, FORM | {"data": {**WAITING, "stream": "true"}}),
    (EDIT, {"json": {**EDITED["json"], "stream": True}}),
]
LIMIT_S = 1.5
HEADERS = {"x-request-timeout": str(LIMIT_S)}


async def ended(edge: Edge) -> None:
    """The service was told of the limit, and has stopped drawing."""
    peer = edge.vectors.images
    assert peer.time_left_s[-1] < 1.1 * LIMIT_S  # gRPC rounds times up
    await edge.backend.until(lambda: peer.live == 0)


@pytest.mark.parametrize(("path", "request_"), ROUTES)
async def test_a_whole_answer(edge: Edge, path: str, request_: dict[str, Any]) -> None:
    answer = await edge.http.post(path, headers=HEADERS, **request_)
    assert answer.status_code == 504, answer.text
    code = "timeout" if path.startswith("/v1/") else "internal_error"
    assert answer.json()["error"]["code"] == code
    await ended(edge)


@pytest.mark.parametrize(("path", "request_"), STREAMS)
async def test_a_stream(edge: Edge, path: str, request_: dict[str, Any]) -> None:
    """The job may be admitted by then, and the answer begun: it ends with the error."""
    answer = await edge.http.post(path, headers=HEADERS, **request_)
    error = answer.json() if answer.status_code == 504 else events(answer.text)[-1]
    assert error["error"]["code"] == "timeout"
    await ended(edge)


async def test_the_setting_is_the_most(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json={"prompt": "x"}, headers={"x-request-timeout": "5000"})
    assert answer.status_code == 200
    assert 500 < edge.vectors.images.time_left_s[-1] < 610  # gRPC rounds long times up
