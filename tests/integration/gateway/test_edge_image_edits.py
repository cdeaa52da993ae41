"""Edits and variations: forms and JSON, masks, what is sent to the image service."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest
from penstock.image.v1 import image_pb2
from PIL import Image

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.image_peer import picture
from tests.integration.gateway.test_edge_images import EDIT, USAGE, events

VARY = "/v1/images/variations"
PLAIN = picture(3)


def with_hole(kind: str = "PNG") -> bytes:
    image = Image.new("RGBA", (16, 8), (10, 20, 30, 255))
    image.paste((0, 0, 0, 0), (4, 2, 9, 7))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


HOLED = with_hole()


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


async def sent_by(edge: Edge, path: str = EDIT, **more: Any) -> image_pb2.ImageRequest:
    answer = await edge.http.post(path, **more)
    assert answer.status_code == 200, answer.text
    return edge.vectors.images.requests[-1]


async def refused(edge: Edge, path: str = EDIT, **more: Any) -> dict[str, Any]:
    answer = await edge.http.post(path, **more)
    assert answer.status_code == 400, answer.text
    assert not edge.vectors.images.requests
    return answer.json()["error"]


def hole_of(request: image_pb2.ImageRequest) -> tuple[int, int, int, int] | None:
    with Image.open(io.BytesIO(request.inpainting.mask)) as mask:
        assert mask.size == (16, 8)
        return mask.getbbox()


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
async def test_a_form(edge: Edge, name: str) -> None:
    sent = await sent_by(edge, files={name: PLAIN}, data={"prompt": "a cat", "n": "2"})
    assert list(sent.init_images) == [PLAIN]
    assert (sent.prompt, sent.batch_size) == ("a cat", 2)
    assert not sent.HasField("inpainting")
    assert not sent.HasField("denoising_strength")
    assert not sent.HasField("width")


async def test_every_text_of_a_form_is_typed(edge: Edge) -> None:
    data = {
        "prompt": "a cat",
        "model": "painter",
        "size": "64x32",
        "quality": "high",
        "output_format": "jpeg",
        "output_compression": "70",
        "background": "auto",
        "user": "7",
        "seed": "11",
        "steps": "",
        "guidance_scale": "3.5",
        "negative_prompt": "12",
        "strength": "0.25",
        "moderation": "auto",
        "response_format": "b64_json",
        "stream": "false",
        "partial_images": "0",
    }
    sent = await sent_by(edge, files={"image": PLAIN}, data=data)
    assert (sent.model, sent.width, sent.height, sent.steps) == ("painter", 64, 32, 40)
    assert (sent.output_format, sent.quality, sent.user) == (2, 70, "7")
    assert (sent.seed, sent.cfg_scale, sent.negative_prompt) == (11, 3.5, "12")
    assert sent.denoising_strength == 0.25


async def test_a_mask_is_turned_into_the_service_s(edge: Edge) -> None:
    files = {"image": PLAIN, "mask": HOLED}
    sent = await sent_by(edge, files=files, data={"prompt": "a cat"})
    assert list(sent.init_images) == [PLAIN]
    assert hole_of(sent) == (4, 2, 9, 7)
    assert sent.denoising_strength == 1.0
    assert sent.inpainting.HasField("full_resolution")
    assert sent.inpainting.full_resolution is False
    sent = await sent_by(edge, files=files, data={"prompt": "a cat", "strength": "0.5"})
    assert sent.denoising_strength == 0.5


@pytest.mark.parametrize("image", [HOLED, with_hole("WEBP")])
async def test_the_picture_s_own_hole_is_its_mask(edge: Edge, image: bytes) -> None:
    sent = await sent_by(edge, files={"image": image}, data={"prompt": "a cat"})
    assert hole_of(sent) == (4, 2, 9, 7)


async def test_fidelity_keeps_more(edge: Edge) -> None:
    data = {"prompt": "a cat", "input_fidelity": "high"}
    sent = await sent_by(edge, files={"image": PLAIN}, data=data)
    assert sent.denoising_strength == 0.5
    sent = await sent_by(
        edge, files={"image": PLAIN}, data={"prompt": "x", "input_fidelity": "low"}
    )
    assert not sent.HasField("denoising_strength")


async def test_json(edge: Edge) -> None:
    body = {
        "prompt": "a cat",
        "images": [{"image_url": url(PLAIN), "file_id": None}],
        "mask": {"image_url": url(HOLED)},
        "n": 2,
    }
    sent = await sent_by(edge, json=body)
    assert list(sent.init_images) == [PLAIN]
    assert hole_of(sent) == (4, 2, 9, 7)
    assert sent.batch_size == 2


async def test_a_streamed_edit(edge: Edge) -> None:
    data = {"prompt": "a cat", "stream": "true", "partial_images": "2"}
    answer = await edge.http.post(EDIT, files={"image": PLAIN}, data=data)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(answer.text)
    assert [event["type"] for event in found] == [
        "image_edit.partial_image",
        "image_edit.partial_image",
        "image_edit.completed",
    ]
    assert found[-1]["usage"] == USAGE


async def test_a_variation(edge: Edge) -> None:
    data = {"n": "2", "size": "16x8", "response_format": "b64_json", "user": "u"}
    sent = await sent_by(edge, VARY, files={"image": PLAIN}, data=data)
    assert list(sent.init_images) == [PLAIN]
    assert (sent.prompt, sent.batch_size, sent.width, sent.height) == ("", 2, 16, 8)
    assert sent.denoising_strength == pytest.approx(0.6)
    sent = await sent_by(edge, VARY, files={"image": PLAIN}, data={"strength": "0.1"})
    assert sent.denoising_strength == pytest.approx(0.1)


PROMPT = {"prompt": "a cat"}


@pytest.mark.parametrize(
    ("files", "data", "param", "code"),
    [
        ({}, {**PROMPT, "image": "x"}, "image", "invalid_type"),
        ({"mask": HOLED}, PROMPT, "image", "missing_required_parameter"),
        ({"image": PLAIN}, {}, "prompt", "missing_required_parameter"),
        ({"image": PLAIN}, {"prompt": ""}, "prompt", "string_below_min_length"),
        ({"image": b""}, PROMPT, "image", "invalid_value"),
        ({"image": PLAIN}, {**PROMPT, "mask": "x"}, "mask", "invalid_type"),
        ({"image": PLAIN, "mask": PLAIN}, PROMPT, "mask", "invalid_value"),
        ({"image": PLAIN, "mask": b"x"}, PROMPT, "mask", "invalid_value"),
        ({"image": PLAIN, "markup": HOLED}, PROMPT, "markup", "unsupported_parameter"),
        ({"image": PLAIN}, {**PROMPT, "n": "two"}, "n", "invalid_type"),
        ({"image": PLAIN}, {**PROMPT, "n": "11"}, "n", "integer_above_max_value"),
        ({"image": PLAIN}, {**PROMPT, "n": ["1", "2"]}, "n", "invalid_value"),
        ({"image": PLAIN}, {**PROMPT, "size": "1x1"}, "size", "invalid_value"),
        ({"image": PLAIN}, {**PROMPT, "stream": "yes"}, "stream", "invalid_type"),
        ({"image": PLAIN}, {**PROMPT, "strength": "2"}, "strength", "decimal_above_max_value"),
        ({"image": PLAIN}, {**PROMPT, "svg[model]": "x"}, "svg", "unsupported_parameter"),
        (
            {"image": PLAIN},
            {**PROMPT, "response_format": "url"},
            "response_format",
            "unsupported_parameter",
        ),
    ],
)
async def test_refused_forms(
    edge: Edge, files: dict[str, Any], data: dict[str, Any], param: str, code: str
) -> None:
    if not files:  # httpx makes a form only for files
        files = {"other": b"x"}
    error = await refused(edge, files=files, data=data)
    assert (error["param"], error["code"]) == (param, code), error


@pytest.mark.parametrize("name", ["image", "image[]"])
@pytest.mark.parametrize("path", [EDIT, VARY])
async def test_one_picture_at_a_time(edge: Edge, path: str, name: str) -> None:
    files = [(name, ("a.png", PLAIN)), (name, ("b.png", PLAIN))]
    data = PROMPT if path == EDIT else {}
    error = await refused(edge, path, files=files, data=data)
    assert (error["param"], error["code"]) == ("image", "array_above_max_length")


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"images": []}, "images", "empty_array"),
        ({"images": "x"}, "images", "invalid_type"),
        ({"images": [{}]}, "images[0].image_url", "missing_required_parameter"),
        ({"images": [{"image_url": 5}]}, "images[0].image_url", "invalid_type"),
        ({"images": [{"image_url": "http://x/y.png"}]}, "images[0].image_url", "invalid_value"),
        ({"images": [{"image_url": "file:///etc/passwd"}]}, "images[0].image_url", "invalid_value"),
        ({"images": [{"image_url": "data:image/png;base64,@"}]}, "images[0].image_url", None),
        ({"images": [{"image_url": "x"}] * 2}, "images", "array_above_max_length"),
        ({"mask": {"image_url": url(PLAIN)}}, "mask.image_url", "invalid_value"),
        ({"n": "2"}, "n", "invalid_type"),
    ],
)
async def test_refused_json(
    edge: Edge, changes: dict[str, Any], param: str, code: str | None
) -> None:
    body = {**PROMPT, "images": [{"image_url": url(PLAIN)}], **changes}
    error = await refused(edge, json=body)
    assert (error["param"], error["code"]) == (param, code or "invalid_value"), error


@pytest.mark.parametrize(
    ("field", "form", "json"),
    [
        ("init_images[0]", "image", "images[0].image_url"),
        ("inpainting.mask", "mask", "mask.image_url"),
        ("denoising_strength", "strength", "strength"),
    ],
)
async def test_what_the_service_refuses_is_spelled_as_it_was_sent(
    edge: Edge, field: str, form: str, json: str
) -> None:
    prompt = {"prompt": f"fails-INVALID_ARGUMENT-{field}"}
    answer = await edge.http.post(EDIT, files={"image": PLAIN, "mask": HOLED}, data=prompt)
    assert answer.json()["error"]["param"] == form
    body = {**prompt, "images": [{"image_url": url(PLAIN)}], "mask": {"image_url": url(HOLED)}}
    answer = await edge.http.post(EDIT, json=body)
    assert answer.json()["error"]["param"] == json
    answer = await edge.http.post(EDIT, files={"image": HOLED}, data=prompt)
    assert answer.json()["error"]["param"] == ("strength" if form == "strength" else "image")


async def test_variations_are_not_streamed(edge: Edge) -> None:
    error = await refused(edge, VARY, files={"image": PLAIN}, data={"stream": "true"})
    assert (error["param"], error["code"]) == ("stream", "unsupported_parameter")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        (VARY, "application/json"),
        (VARY, ""),
        (EDIT, "application/x-www-form-urlencoded"),
        (EDIT, "multipart/form-data"),
        (VARY, "multipart/form-data; boundary="),
        (EDIT, "multipart/mixed; boundary=b"),
    ],
)
async def test_other_types(edge: Edge, path: str, content_type: str) -> None:
    headers = {"content-type": content_type}
    error = await refused(edge, path, content=b"prompt=x", headers=headers)
    assert error["message"]
    assert error["param"] is None


class TestSmallBodies:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"max_body_bytes": 10_000}

    @pytest.mark.parametrize("path", [EDIT, VARY])
    async def test_a_form_that_is_too_large(self, edge: Edge, path: str) -> None:
        answer = await edge.http.post(path, files={"image": b"x" * 20_000}, data=PROMPT)
        assert answer.status_code == 413
        assert answer.json()["error"]["type"] == "invalid_request_error"

    async def test_one_that_does_not_tell_its_size(self, edge: Edge) -> None:
        async def pieces() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
            for _ in range(5):
                yield b"x" * 5000

        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = await edge.http.post(EDIT, content=pieces(), headers=headers)
        assert answer.status_code == 413


async def test_a_client_that_leaves_half_way_through_its_form(edge: Edge) -> None:
    head = (
        f"POST {EDIT} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer sk-test\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\nxxx'
    )
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(head.encode())
    await writer.drain()
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert (await edge.http.get("/v1/models")).status_code == 200
