"""Bodies that no client of the WebUI would send: each gets a 4xx in the envelope, soon."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.image_peer import picture
from tests.integration.gateway.odd_bodies import damage
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON

API = "/sdapi/v1"
INIT = base64.b64encode(picture(1)).decode()
BODIES: dict[str, dict[str, Any]] = {
    f"{API}/txt2img": {
        "prompt": "x",
        "seed": 5,
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_cfg": 5.5,
        "hr_checkpoint_name": "second",
        "cfg_scale": 7.5,
        "styles": [],
        "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_vae": "Automatic"},
        "alwayson_scripts": {"ControlNet": {"args": []}},
        "infotext": "x\nSteps: 5, Seed: 3, Size: 64x64",
        "subseed_strength": 0.5,
        "eta": 1.0,
    },
    f"{API}/img2img": {
        "prompt": "x",
        "init_images": [INIT],
        "mask": INIT,
        "mask_blur": 3,
        "resize_mode": 1,
        "inpaint_full_res": True,
    },
    "/generate-image": {"prompt": "x", "seed": 1, "sampler_name": "Euler", "width": 64},
    "/internal/progress": {"id_task": "task(a)", "id_live_preview": 3},
    f"{API}/options": {"sd_model_checkpoint": "first", "CLIP_stop_at_last_layers": 2},
    f"{API}/png-info": {"image": INIT},
}
HARMLESS = {
    # To fields that are unknown here, or to an empty change of options.
    f"{API}/options": {"nothing"},
}
GENERATED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(answer: httpx.Response, *more: int) -> None:
    assert answer.status_code in (400, 404, 413, 422, *more), answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        assert list(answer.json()["error"]) == ["code", "message", "details"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(edge: Edge, path: str, name: str) -> None:
    more = (200,) if name in HARMLESS.get(path, ()) or b'"prompt"' in HORRORS[name] else ()
    check(await edge.http.post(path, content=HORRORS[name]), *more)


@pytest.mark.parametrize("depth", [50, 500, 900, 5000])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{API}/txt2img", '"override_settings": {"sd_vae": %s}'),
        (f"{API}/txt2img", '"override_settings": {"unknown": %s}'),
        (f"{API}/txt2img", '"alwayson_scripts": {"x": {"args": %s}}'),
        (f"{API}/txt2img", '"styles": %s'),
        (f"{API}/options", '"sd_vae": %s'),
    ],
)
async def test_deep_values(edge: Edge, path: str, field: str, depth: int) -> None:
    deep = field % ("[" * depth + "]" * depth)
    check(await edge.http.post(path, content='{"prompt": "x", ' + deep + "}"))


@pytest.mark.parametrize("path", BODIES)
async def test_the_bodies_are_good(edge: Edge, path: str) -> None:
    assert (await edge.http.post(path, json=BODIES[path])).status_code == 200


@pytest.mark.parametrize("path", BODIES)
@GENERATED
@given(data=st.data())
async def test_damaged_bodies(edge: Edge, path: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BODIES[path]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damage(data.draw, body)
    check(await edge.http.post(path, content=bytes(body)), 200)


@pytest.mark.parametrize("path", BODIES)
@GENERATED
@given(data=st.data())
async def test_any_value_in_any_field(edge: Edge, path: str, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(BODIES[path])))
    body = BODIES[path] | {field: data.draw(JSON)}
    content = json.dumps(body, allow_nan=True).encode()
    check(await edge.http.post(path, content=content), 200)


@GENERATED
@given(query=st.text(max_size=30))
async def test_any_query(edge: Edge, query: str) -> None:
    answer = await edge.http.get(f"{API}/progress", params={"skip_current_image": query})
    check(answer, 200)
