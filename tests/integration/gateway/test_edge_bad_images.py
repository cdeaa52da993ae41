"""Bodies about images that no SDK would send: a 4xx in the envelope, soon."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check
from tests.integration.gateway.test_edge_bad_vectors import damaged, settle
from tests.integration.gateway.test_edge_image_edits import HOLED, PLAIN, VARY
from tests.integration.gateway.test_edge_images import DRAW, EDIT

URL = "data:image/png;base64," + base64.b64encode(HOLED).decode()
OPTIONS: dict[str, Any] = {
    "prompt": "a cat",
    "model": "m",
    "n": 2,
    "size": "64x64",
    "quality": "low",
    "response_format": "b64_json",
    "output_format": "jpeg",
    "output_compression": 50,
    "background": "auto",
    "stream": False,
    "partial_images": 0,
    "user": "u",
    "seed": 1,
    "steps": 2,
    "guidance_scale": 3.5,
    "negative_prompt": "x",
}
EDITED = {**OPTIONS, "images": [{"image_url": URL}], "mask": {"image_url": URL}, "strength": 0.5}
BODIES = {DRAW: OPTIONS | {"style": "vivid", "moderation": "low"}, EDIT: EDITED}
GENERATED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FORM = {"content-type": "multipart/form-data; boundary=b"}


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    more = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + data + b"\r\n"


WHOLE = b"".join(
    [
        *(part(name, str(value).encode()) for name, value in OPTIONS.items()),
        part("image", PLAIN, "a.png"),
        part("mask", HOLED, "b.png"),
        b"--b--\r\n",
    ]
)


@pytest.mark.parametrize("path", [DRAW, EDIT])
@pytest.mark.parametrize("name", ["array", "number", "null", "truncated", "nan", "invalid utf-8"])
async def test_horrors(edge: Edge, path: str, name: str) -> None:
    check(await edge.http.post(path, content=HORRORS[name]))


@st.composite
def wrong(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path, and a body for it with some fields changed or some bytes damaged."""
    path = draw(st.sampled_from(sorted(BODIES)))
    changes = draw(st.dictionaries(st.sampled_from(sorted(BODIES[path])), JSON, max_size=3))
    body = json.dumps(BODIES[path] | changes).encode("utf-8", "replace")
    return path, draw(st.just(body) | damaged(body) | st.binary(max_size=64))


@GENERATED
@given(request=wrong())
async def test_generated_bodies(edge: Edge, request: tuple[str, bytes]) -> None:
    path, body = request
    settle(edge, await edge.http.post(path, content=body))


@GENERATED
@given(
    path=st.sampled_from([EDIT, VARY]),
    form=damaged(WHOLE) | st.binary(max_size=80) | st.binary(max_size=80).map(b"--b\r\n".__add__),
)
async def test_generated_forms(edge: Edge, path: str, form: bytes) -> None:
    settle(edge, await edge.http.post(path, content=form, headers=FORM))


NAMES = st.sampled_from([*OPTIONS, "image", "image[]", "mask", "svg[model]", "markup", "x[]"])
PARTS = st.lists(
    st.builds(
        part,
        NAMES,
        st.sampled_from([b"", b"2", b"true", b"x", b"-1", b"1e9", PLAIN, HOLED, b"\xff"]),
        st.none() | st.sampled_from(["", "a.png", "..", "a\nb"]),
    ),
    max_size=8,
)


@GENERATED
@given(path=st.sampled_from([EDIT, VARY]), parts=PARTS)
async def test_generated_parts(edge: Edge, path: str, parts: list[bytes]) -> None:
    body = b"".join([part("prompt", b"x"), *parts, b"--b--\r\n"])
    settle(edge, await edge.http.post(path, content=body, headers=FORM))


@GENERATED
@given(content_type=st.text(max_size=60) | st.text(max_size=30).map("multipart/form-data".__add__))
async def test_generated_content_types(edge: Edge, content_type: str) -> None:
    value = content_type.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
    clean = bytes(byte for byte in value if byte >= 32 and byte != 127).strip()
    for path in (EDIT, VARY):
        check(await edge.http.post(path, content=WHOLE, headers={b"content-type": clean}))
