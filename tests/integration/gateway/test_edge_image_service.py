"""Images of OpenAI's dialect with a real image service behind the edge: its echo engine draws."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from PIL import Image, ImageChops

from gateway.settings import Settings
from tests.integration.gateway.conftest import live_edge
from tests.integration.gateway.test_edge_images import DRAW, EDIT, events
from tests.integration.serving_processes import run_processes, until_ready

VARY = "/v1/images/variations"
CONFIG = """
[services.image]
engine = "echo"
max_steps = 50

[api.models.painter]
path = "nothing"
type = "image"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder: Path = tmp_path_factory.mktemp("images")
    async with run_processes(folder, "image", CONFIG) as processes:
        async with grpc.aio.insecure_channel(processes.address("model")) as channel:
            await until_ready(ModelServiceStub(channel), "painter")
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {name: processes.address(name) for name in ("model", "image")}
        settings = Settings(data_dir=folder, addresses=addresses, service_token="service-token")
        async with live_edge(settings) as (_, _, host, port):
            yield f"http://{host}:{port}"


@pytest_asyncio.fixture(loop_scope="module")
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": "Bearer admin-token"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        yield http


pytestmark = pytest.mark.asyncio(loop_scope="module")


def body(**more: Any) -> dict[str, Any]:
    return {"prompt": "a red circle", "size": "64x48", "seed": 7, "steps": 4, **more}


def opened(encoded: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


async def drawn(http: httpx.AsyncClient, **more: Any) -> list[str]:
    answer = await http.post(DRAW, json=body(**more))
    assert answer.status_code == 200, answer.text
    return [item["b64_json"] for item in answer.json()["data"]]


def photo(size: tuple[int, int] = (64, 48), kind: str = "PNG", **more: Any) -> bytes:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def hole(box: tuple[int, int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), box)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def test_the_same_seed_is_the_same_picture(http: httpx.AsyncClient) -> None:
    (first,) = await drawn(http)
    image = opened(first)
    assert (image.format, image.size) == ("PNG", (64, 48))
    assert "Seed: 7" in image.info["parameters"]
    assert await drawn(http) == [first]
    second, third = await drawn(http, n=2, seed=8)
    assert second != first
    assert await drawn(http, seed=9) == [third]
    assert await drawn(http, prompt="a blue square") != [first]
    assert await drawn(http, steps=5) != [first]


@pytest.mark.parametrize(("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_formats(http: httpx.AsyncClient, name: str, kind: str) -> None:
    small = await drawn(http, output_format=name, output_compression=10)
    large = await drawn(http, output_format=name, output_compression=100)
    assert opened(small[0]).format == kind
    assert len(small[0]) < len(large[0])


async def test_a_stream_shows_the_way(http: httpx.AsyncClient) -> None:
    answer = await http.post(DRAW, json=body(stream=True, partial_images=3, steps=8))
    *partial, done = events(answer.text)
    assert [event["partial_image_index"] for event in partial] == [0, 1, 2]
    assert done["type"] == "image_generation.completed"
    assert [done["b64_json"]] == await drawn(http, steps=8)
    shown = {event["b64_json"] for event in (*partial, done)}
    assert len(shown) == 4
    for event in partial:
        assert event["size"] == done["size"] == "64x48"
        assert opened(event["b64_json"]).size == (64, 48)
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"]


async def test_a_mask_keeps_what_it_covers(http: httpx.AsyncClient) -> None:
    size, box = (128, 96), (48, 40, 80, 64)
    options = {"prompt": "a red circle", "seed": "7", "steps": "4"}
    files = {"image": photo(size), "mask": hole(box, size)}
    answer = await http.post(EDIT, files=files, data=options)
    assert answer.status_code == 200, answer.text
    edited = opened(answer.json()["data"][0]["b64_json"]).convert("RGB")
    before = opened(base64.b64encode(photo(size)).decode())
    assert edited.size == before.size
    changed = ImageChops.difference(edited, before).getbbox()
    assert changed is not None
    soft = 16  # its edge is blurred
    assert changed[0] >= box[0] - soft
    assert changed[1] >= box[1] - soft
    assert changed[2] <= box[2] + soft
    assert changed[3] <= box[3] + soft
    assert ImageChops.difference(edited.crop(box), before.crop(box)).getbbox() is not None
    own = {"image": hole(box, size)}  # its own hole is a mask, too
    answer = await http.post(EDIT, files=own, data=options)
    edited = opened(answer.json()["data"][0]["b64_json"]).convert("RGB")
    assert edited.getpixel((4, 4)) == (0, 0, 0)
    assert edited.crop(box).getextrema() != ((0, 0), (0, 0), (0, 0))


async def test_a_whole_edit_and_a_variation_start_from_the_picture(
    http: httpx.AsyncClient,
) -> None:
    before = opened(base64.b64encode(photo()).decode())

    async def distance(path: str, **options: str) -> float:
        data = {"seed": "7", "steps": "10", **options}
        answer = await http.post(path, files={"image": photo()}, data=data)
        assert answer.status_code == 200, answer.text
        image = opened(answer.json()["data"][0]["b64_json"]).convert("RGB")
        assert image.size == before.size
        pixels = ImageChops.difference(image, before).convert("L").histogram()
        return sum(value * count for value, count in enumerate(pixels)) / (64 * 48)

    prompt = {"prompt": "a red circle"}
    little, much = [await distance(EDIT, **prompt, strength=strength) for strength in ("0.1", "1")]
    assert little < much
    faithful = await distance(EDIT, **prompt, input_fidelity="high")
    assert faithful < await distance(EDIT, **prompt)
    assert await distance(VARY, strength="0.1") < await distance(VARY, strength="1")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"steps": 51}, "steps"),
        ({"steps": None, "quality": "max"}, "quality"),
        ({"size": "16384x16384"}, "size"),
        ({"background": "transparent"}, "background"),
        ({"model": "nope"}, "model"),
    ],
)
async def test_what_the_service_refuses(
    http: httpx.AsyncClient, changes: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        answer = await http.post(DRAW, json=body(**changes, stream=stream))
        assert answer.status_code == (404 if param == "model" else 400), answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["param"] == param, answer.text


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (b"no image", None),
        (photo()[:60], None),
        (photo(kind="GIF"), None),
        (b"no image", hole((0, 0, 8, 8))),
    ],
)
async def test_broken_pictures(http: httpx.AsyncClient, image: bytes, mask: bytes | None) -> None:
    files = {"image": image} | ({} if mask is None else {"mask": mask})
    for path in (EDIT, VARY) if mask is None else (EDIT,):
        answer = await http.post(path, files=files, data={"prompt": "x"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "image", answer.text


async def test_everybody_gets_their_own(http: httpx.AsyncClient) -> None:
    alone = [await drawn(http, seed=seed) for seed in range(6)]
    together = await asyncio.gather(*(drawn(http, seed=seed) for seed in range(6)))
    assert together == alone
