"""Images of OpenAI's dialect over real sockets: answers, streams, errors, disconnects."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.edge_backend import CREATED
from tests.integration.gateway.image_peer import SEED, picture
from tests.integration.gateway.test_edge_streams import raw_request, read_chunk, read_head

DRAW, EDIT = "/v1/images/generations", "/v1/images/edits"
USAGE = {
    "total_tokens": 7,
    "input_tokens": 7,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 7, "image_tokens": 0},
}
NO_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def body(**more: Any) -> dict[str, Any]:
    return {"prompt": "a red circle", **more}


def drawn(prompt: str = "a red circle", seed: int = SEED, steps: int = 0) -> bytes:
    return picture(seed, f"{prompt}\nSteps: {steps}, Seed: {seed}, Size: 16x8")


def events(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for frame in text.split("\n\n")[:-1]:
        *name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        if "error" not in event:
            assert name == [f"event: {event['type']}"]
        found.append(event)
    return found


async def test_a_whole_answer(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json=body())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    got = answer.json()
    assert list(got) == [
        "created",
        "data",
        "background",
        "output_format",
        "size",
        "quality",
        "usage",
    ]
    (item,) = got.pop("data")
    assert list(item) == ["b64_json"]
    assert base64.b64decode(item["b64_json"], validate=True) == drawn()
    assert got == {
        "created": CREATED,
        "background": "opaque",
        "output_format": "png",
        "size": "16x8",
        "quality": "medium",
        "usage": USAGE,
    }
    assert edge.vectors.images.metadata[-1]["authorization"] == "Bearer sk-test"


async def test_several_images_come_in_order(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json=body(n=3, seed=5))
    images = [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]
    assert images == [drawn(seed=seed) for seed in (5, 6, 7)]


async def test_images_beyond_one_message(edge: Edge) -> None:
    """Ten images of eight MiB are more than an RPC's answer may hold."""
    answer = await edge.http.post(DRAW, json={"prompt": "huge", "n": 10}, timeout=60)
    assert answer.status_code == 200
    sizes = {len(base64.b64decode(item["b64_json"])) for item in answer.json()["data"]}
    assert len(answer.json()["data"]) == 10
    assert min(sizes) > 8 << 20


async def test_what_travels(edge: Edge) -> None:
    given = body(
        model="org/painter",
        n=2,
        size="640x512",
        quality="low",
        output_format="webp",
        output_compression=80,
        background="opaque",
        user="u",
        seed=9,
        guidance_scale=4.5,
        negative_prompt="blurry",
        style="vivid",
        moderation="low",
        response_format="b64_json",
        unknown=[1],
    )
    answer = (await edge.http.post(DRAW, json=given)).json()
    assert (answer["output_format"], answer["quality"]) == ("webp", "low")
    sent = edge.vectors.images.requests[-1]
    assert (sent.model, sent.prompt, sent.negative_prompt) == (
        "org/painter",
        "a red circle",
        "blurry",
    )
    assert (sent.batch_size, sent.width, sent.height, sent.steps) == (2, 640, 512, 12)
    assert (sent.quality, sent.seed, sent.cfg_scale, sent.user) == (80, 9, 4.5, "u")
    assert (sent.output_format, sent.background) == (3, 1)


async def test_nulls_and_the_model_s_own_values(edge: Edge) -> None:
    unset = "model n size quality output_format output_compression background stream user seed"
    more = "partial_images steps guidance_scale negative_prompt response_format svg frame_count"
    nulls = dict.fromkeys(f"{unset} {more}".split())
    assert (await edge.http.post(DRAW, json=body(**nulls))).status_code == 200
    sent = edge.vectors.images.requests[-1]
    for field in ("width", "height", "steps", "cfg_scale", "seed", "batch_size", "quality"):
        assert not sent.HasField(field)
    assert sent.model == ""
    await edge.http.post(DRAW, json=body(size="auto", quality="auto"))
    sent = edge.vectors.images.requests[-1]
    assert not sent.HasField("width")
    assert not sent.HasField("steps")


@pytest.mark.parametrize(
    ("quality", "steps", "label"),
    [
        ("low", 12, "low"),
        ("medium", 24, "medium"),
        ("standard", 24, "medium"),
        ("high", 40, "high"),
        ("hd", 40, "high"),
        ("xhigh", 60, "xhigh"),
        ("max", 80, "max"),
    ],
)
async def test_quality_is_steps(edge: Edge, quality: str, steps: int, label: str) -> None:
    answer = (await edge.http.post(DRAW, json=body(quality=quality))).json()
    assert answer["quality"] == label
    assert edge.vectors.images.requests[-1].steps == steps
    await edge.http.post(DRAW, json=body(quality=quality, steps=3))
    assert edge.vectors.images.requests[-1].steps == 3


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "string_below_min_length"),
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": ["x"]}, "prompt", "invalid_type"),
        ({"prompt": "x" * 32001}, "prompt", "string_above_max_length"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"n": "2"}, "n", "invalid_type"),
        ({"n": True}, "n", "invalid_type"),
        ({"size": "512"}, "size", "invalid_value"),
        ({"size": "512x516"}, "size", "invalid_value"),
        ({"size": "0x8"}, "size", "invalid_value"),
        ({"size": "512X512"}, "size", "invalid_value"),
        ({"size": "16392x8"}, "size", "invalid_value"),
        ({"size": 512}, "size", "invalid_type"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"response_format": "url"}, "response_format", "unsupported_parameter"),
        ({"response_format": "file"}, "response_format", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_compression": 101}, "output_compression", "integer_above_max_value"),
        ({"output_compression": 50}, "output_compression", "invalid_value"),
        ({"background": "blue"}, "background", "invalid_value"),
        (
            {"background": "transparent", "output_format": "jpeg"},
            "background",
            "invalid_value",
        ),
        ({"partial_images": 4, "stream": True}, "partial_images", "integer_above_max_value"),
        ({"partial_images": 1}, "partial_images", "invalid_value"),
        ({"stream": "true"}, "stream", "invalid_type"),
        ({"seed": -2}, "seed", "integer_below_min_value"),
        ({"seed": 2**53}, "seed", "integer_above_max_value"),
        ({"steps": 0}, "steps", "integer_below_min_value"),
        ({"guidance_scale": 101}, "guidance_scale", "decimal_above_max_value"),
        ({"svg": {"model": "x"}}, "svg", "unsupported_parameter"),
        ({"complexity": "low"}, "complexity", "unsupported_parameter"),
        ({"frame_count": 2}, "frame_count", "unsupported_parameter"),
        ({"frame_duration_ms": 200}, "frame_duration_ms", "unsupported_parameter"),
    ],
)
async def test_refused_by_the_edge(
    edge: Edge, changes: dict[str, Any], param: str, code: str
) -> None:
    answer = await edge.http.post(DRAW, json=body(**changes))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    assert error["type"] == "invalid_request_error"
    assert param in error["message"] or "Supported values" in error["message"]
    assert not edge.vectors.images.requests


@pytest.mark.parametrize(
    ("path", "changes", "param"),
    [
        ("width", {}, "size"),
        ("height", {"size": "64x64"}, "size"),
        ("batch_size", {"n": 3}, "n"),
        ("cfg_scale", {}, "guidance_scale"),
        ("steps", {"steps": 900}, "steps"),
        ("steps", {"quality": "max"}, "quality"),
        ("quality", {"output_format": "jpeg", "output_compression": 3}, "output_compression"),
        ("background", {"background": "transparent"}, "background"),
        ("prompt", {}, "prompt"),
        ("model", {}, "model"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_fields_are_spelled_as_the_request_spells_them(
    edge: Edge, path: str, changes: dict[str, Any], param: str, stream: bool
) -> None:
    given = {"prompt": f"fails-UNSUPPORTED_PARAMETER-{path}", "stream": stream, **changes}
    answer = await edge.http.post(DRAW, json=given)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert error["message"].endswith(f"in {param}")


async def test_a_full_queue_is_503_and_an_unknown_model_404(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json={"prompt": "fails-QUEUE_FULL"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    answer = await edge.http.post(DRAW, json={"prompt": "fails-MODEL_NOT_FOUND-model"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_an_answer_that_was_cut_short_is_503(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json={"prompt": "cut"})
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"


async def test_a_stream(edge: Edge) -> None:
    given = body(stream=True, partial_images=2, quality="low")
    answer = await edge.http.post(DRAW, json=given)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in answer.headers
    assert "[DONE]" not in answer.text
    encoded = base64.b64encode(drawn(steps=12)).decode()
    labels = {
        "created_at": CREATED,
        "size": "16x8",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
    }
    partial = {"type": "image_generation.partial_image", "b64_json": encoded, **labels}
    assert events(answer.text) == [
        {**partial, "partial_image_index": 0},
        {**partial, "partial_image_index": 1},
        {"type": "image_generation.completed", "b64_json": encoded, **labels, "usage": USAGE},
    ]
    assert edge.vectors.images.requests[-1].partial_image_count == 2


async def test_a_stream_of_several_images(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json=body(stream=True, n=3, seed=1, partial_images=1))
    found = events(answer.text)
    done = [event for event in found if event["type"].endswith("completed")]
    assert [base64.b64decode(event["b64_json"]) for event in done] == [
        drawn(seed=seed) for seed in (1, 2, 3)
    ]
    assert [event["image_index"] for event in done] == [0, 1, 2]
    assert [event["usage"] for event in done] == [NO_USAGE, NO_USAGE, USAGE]
    partial = [event["image_index"] for event in found if event not in done]
    assert partial == [0, 1, 2]


async def test_a_stream_that_breaks_ends_with_an_error(edge: Edge) -> None:
    answer = await edge.http.post(DRAW, json={"prompt": "cut", "stream": True})
    assert answer.status_code == 200  # it was admitted
    (event,) = events(answer.text)
    assert set(event["error"]) == {"message", "type", "param", "code"}
    assert event["error"]["type"] == "server_error"
    assert answer.text.startswith("data: ")


async def test_the_answer_begins_when_the_job_is_admitted(edge: Edge) -> None:
    peer = edge.vectors.images
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request({"prompt": "waiting", "stream": True}, DRAW))
    assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
    peer.interrupted.set()
    assert (await read_chunk(reader)).startswith(b"event: image_generation.completed\n")
    writer.close()


class TestPings:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.05}

    async def test_a_silent_stream_is_pinged(self, edge: Edge) -> None:
        reader, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request({"prompt": "waiting", "stream": True}, DRAW))
        await read_head(reader)
        assert await read_chunk(reader) == b": ping\n\n"
        edge.vectors.images.interrupted.set()
        writer.close()

    async def test_progress_that_shows_nothing_is_silence(self, edge: Edge) -> None:
        reader, writer = await asyncio.open_connection(edge.host, edge.port)
        writer.write(raw_request({"prompt": "busy", "stream": True}, DRAW))
        await read_head(reader)
        assert await read_chunk(reader) == b": ping\n\n"
        assert await read_chunk(reader) == b": ping\n\n"
        writer.close()
        await edge.backend.until(lambda: edge.vectors.images.live == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_job(edge: Edge, stream: bool) -> None:
    peer = edge.vectors.images
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request({"prompt": "waiting", "stream": stream}, DRAW))
    await edge.backend.until(lambda: peer.live == 1)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)
    rest = await reader.read()
    assert b"error" not in rest


async def test_methods_and_credentials(edge: Edge) -> None:
    for path in (DRAW, EDIT, "/v1/images/variations"):
        answer = await edge.http.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        answer = await edge.http.post(path, headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 401


class TestSlowReaders:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"slow_reader_s": 0.2}

    async def test_an_answer_that_nobody_takes_is_let_go(self, edge: Edge) -> None:
        running = edge.server.server_state.tasks
        reader, writer = await asyncio.open_connection(edge.host, edge.port, limit=1024)
        writer.write(raw_request({"prompt": "huge", "n": 4}, DRAW))
        head = await read_head(reader)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert length > 32 << 20
        await edge.backend.until(lambda: not running, 30)
        assert len(await reader.read()) < length
        writer.close()
