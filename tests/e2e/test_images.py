"""Pictures of the whole platform: every dialect, eight callers at once, and a service that dies."""

from __future__ import annotations

import http.client
import io
import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from penstock.image.v1 import progress_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from PIL import Image

from tests.e2e.drawing import (
    DIALECTS,
    MODEL,
    SAMPLER,
    TIMEOUT_S,
    Wish,
    by_grpc,
    channel,
    completed,
    depth,
    metadata,
    post,
    progress,
    until,
)
from tests.e2e.library import again, penstock
from tests.e2e.stack import IMAGE_STARTER, REPOSITORY, Platform, configuration, running

pytestmark = pytest.mark.timeout(600)  # where others work too, models load and draw slowly
MODELS = {MODEL: {"path": str(IMAGE_STARTER), "type": "image", "aliases": ["default-image"]}}
CLIENTS = 8
LONG = Wish(seed=1, side=128, steps=150, count=8)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(
        tmp_path_factory.mktemp("images"), configuration(MODELS), ready_within_s=300
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_is_left(platform: Platform) -> Iterator[None]:
    yield
    until(lambda: again(lambda: depth(platform), 240) == 0)


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.size


def test_all_dialects_draw_the_same_bytes(platform: Platform, tmp_path: Path) -> None:
    wish = Wish(count=2)
    drawn = {name: draw(platform, wish) for name, draw in DIALECTS.items()}
    first, second = drawn["gRPC"]
    assert first != second
    assert size_of(first) == (64, 64)
    assert drawn == {name: [first, second] for name in DIALECTS}
    alone = replace(wish, count=1)
    assert by_grpc(platform, replace(alone, seed=wish.seed + 1)) == [second]
    words = ["image", wish.prompt, "--cfg", "7"]  # without a model: the default
    words += ["--seed", str(wish.seed), "--steps", str(wish.steps), "--size", str(wish.side)]
    penstock(platform, *words, "-o", "one.png", cwd=tmp_path)
    assert (tmp_path / "one.png").read_bytes() == first


def test_a_model_has_steps_and_guidance_of_its_own(platform: Platform, tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    (line,) = (text for text in readme.splitlines() if text.startswith(".venv/bin/penstock image"))
    words = [*shlex.split(line)[1:], "--size", "64"]

    def infotext(*more: str) -> str:
        penstock(platform, *words, "--force", *more, cwd=tmp_path)
        with Image.open(tmp_path / "circle.png") as image:
            return image.info["parameters"]

    def are(steps: int, guidance: float) -> bool:
        told = infotext()
        return f"Steps: {steps}," in told and f"CFG scale: {guidance:g}," in told

    setting = ("models", "config", "set", MODEL)
    penstock(platform, *setting, "default_steps=3", "default_cfg_scale=2.5")
    until(lambda: are(3, 2.5))
    told = infotext("--steps", "2", "--cfg", "0")
    assert "Steps: 2," in told
    assert "CFG scale: 0," in told
    penstock(platform, *setting, "default_steps=", "default_cfg_scale=")
    until(lambda: are(20, 7))


def test_another_seed_prompt_or_step_is_another_picture(platform: Platform) -> None:
    wishes = [Wish(), Wish(seed=8), Wish(prompt="a green square"), Wish(steps=3)]
    pictures = [by_grpc(platform, wish)[0] for wish in wishes]
    assert len({Image.open(io.BytesIO(data)).tobytes() for data in pictures}) == len(wishes)


def watched(platform: Platform, wish: Wish) -> list[bytes]:
    """Draws over a stream; what it says of its progress has to be right."""
    with channel(platform) as opened:
        events = list(
            ImageServiceStub(opened).StreamGenerate(
                wish.request(), metadata=metadata(platform), timeout=TIMEOUT_S
            )
        )
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("queued", "finish")
    job = events[0].queued.job_id
    told = [event.progress for event in events if event.HasField("progress")]
    assert {each.job_id for each in told} <= {job}
    drawing = [each for each in told if each.state == each.STATE_RUNNING]
    assert {each.step_count for each in drawing} == {wish.steps}
    assert [each.step for each in drawing] == sorted(each.step for each in drawing)
    shares = [each.fraction for each in told]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    finish = events[-1].finish
    assert finish.reason == progress_pb2.IMAGE_FINISH_REASON_COMPLETED
    assert finish.effective_request.prompt == wish.prompt
    return [event.image.data for event in events if event.HasField("image")]


def test_eight_callers_at_once_get_their_own(platform: Platform) -> None:
    ways: list[Callable[[Platform, Wish], list[bytes]]] = [watched, *DIALECTS.values()]
    colours = ("red", "green", "blue", "yellow", "white", "black", "pink", "orange")
    wishes = [Wish(f"a {colour} star", seed=100 + at) for at, colour in enumerate(colours)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        drawing = [
            threads.submit(ways[at % len(ways)], platform, wish) for at, wish in enumerate(wishes)
        ]
        together = [each.result() for each in drawing]
    assert len({data for [data] in together}) == CLIENTS
    assert together == [by_grpc(platform, wish) for wish in wishes], "alone, later"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sdapi/v1/txt2img", LONG.webui()),
        ("/v1/images/generations", LONG.openai()),
        ("/v1/images/generations", LONG.openai() | {"stream": True}),
    ],
)
def test_a_client_that_leaves_ends_its_job(
    platform: Platform, path: str, body: dict[str, Any]
) -> None:
    """It doesn't just come to its end: it is no completed one, and steps of it were not done."""
    before = completed(platform)
    edge = urlsplit(platform.url)
    client = http.client.HTTPConnection(edge.hostname or "", edge.port, timeout=TIMEOUT_S)
    try:
        client.request("POST", path, json.dumps(body), platform.headers())
        until(lambda: progress(platform).step > 0, TIMEOUT_S)
        job = progress(platform).job_id
    finally:
        client.close()
    until(lambda: depth(platform) == 0, TIMEOUT_S)
    ended = progress(platform, job)
    assert ended.state == ended.STATE_FINISHED
    assert 0 < ended.step < LONG.steps
    assert ended.fraction < 1
    assert completed(platform) == before


def test_what_can_not_be_drawn_is_refused_alike(platform: Platform) -> None:
    request = Wish().request()
    request.sampler = "Oil and brush"
    with channel(platform) as opened, pytest.raises(grpc.RpcError) as caught:
        ImageServiceStub(opened).Generate(request, metadata=metadata(platform), timeout=TIMEOUT_S)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    refused = post(
        platform, "/sdapi/v1/txt2img", Wish().webui() | {"sampler_name": "Oil and brush"}
    )
    assert refused.status_code == 400
    for said in (caught.value.details() or "", refused.text):
        assert SAMPLER in said, "the list of those there are"
    small = post(platform, "/v1/images/generations", Wish().openai() | {"size": "63x63"})
    assert small.status_code == 400
    assert small.json()["error"]["param"] == "size"


def test_kill_9_is_said_in_each_dialect_and_the_next_job_works(platform: Platform) -> None:
    wish = Wish(count=2)
    before = by_grpc(platform, wish)
    pid = platform.pid("image")
    with ThreadPoolExecutor(5) as threads, channel(platform) as opened:
        stub = ImageServiceStub(opened)
        stream = stub.StreamGenerate(LONG.request(), metadata=metadata(platform), timeout=TIMEOUT_S)
        while next(stream).progress.step < 1:
            pass
        words = ["a star", "-m", MODEL, "--steps", str(LONG.steps)]
        words += ["--size", str(LONG.side), "--count", str(LONG.count)]
        command = threads.submit(penstock, platform, "image", *words, "-o", "no.png", status=1)
        until(lambda: depth(platform) == 2)
        calls = [
            threads.submit(post, platform, "/sdapi/v1/txt2img", LONG.webui()),
            threads.submit(post, platform, "/v1/images/generations", LONG.openai()),
        ]
        until(lambda: depth(platform) == 4)
        streamed = threads.submit(
            post, platform, "/v1/images/generations", LONG.openai() | {"n": 1, "stream": True}
        )
        until(lambda: depth(platform) == 5)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        webui, openai = (call.result() for call in calls)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert webui.status_code == openai.status_code == 503, (webui.text, openai.text)
        assert webui.json()["error"].keys() >= {"code", "message", "details"}, webui.text
        assert openai.json()["error"].keys() >= {"message", "type", "param", "code"}, openai.text
        assert all(answer.json()["error"]["message"] for answer in (webui, openai))
        events = streamed.result().text
        assert "error" in events, events
        assert "completed" not in events, events
        assert "went away while it drew" in command.result().stderr
    for file in platform.data_dir.glob("no*.png"):
        assert size_of(file.read_bytes()) == (LONG.side, LONG.side), "none is half"
    assert again(lambda: by_grpc(platform, wish), 240) == before, "the same seed, after a restart"
    assert platform.pid("image") != pid
    drawn = {name: draw(platform, wish) for name, draw in DIALECTS.items()}
    assert drawn == dict.fromkeys(DIALECTS, before)
