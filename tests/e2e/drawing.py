"""Images of the running platform, asked for in each dialect."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from penstock.image.v1 import image_pb2, image_service_pb2, progress_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from penstock.inference.v1 import queue_pb2

from tests.e2e.stack import Platform

MODEL = "penstock-starter-image"
SAMPLER = "DPM++ 2M"
"""The model's own, which callers get who name none; WebUI clients always name one."""
TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Wish:
    """What is drawn."""

    prompt: str = "a red circle on a blue background"
    seed: int = 7
    side: int = 64
    steps: int = 2
    count: int = 1

    def request(self) -> image_pb2.ImageRequest:
        return image_pb2.ImageRequest(
            model=MODEL,
            prompt=self.prompt,
            seed=self.seed,
            width=self.side,
            height=self.side,
            steps=self.steps,
            cfg_scale=7.0,
            batch_size=self.count,
        )

    def webui(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "width": self.side,
            "height": self.side,
            "steps": self.steps,
            "cfg_scale": 7.0,
            "sampler_name": SAMPLER,
            "batch_size": self.count,
        }

    def openai(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "prompt": self.prompt,
            "seed": self.seed,
            "size": f"{self.side}x{self.side}",
            "steps": self.steps,
            "guidance_scale": 7.0,
            "n": self.count,
        }


def channel(platform: Platform) -> grpc.Channel:
    """Opens one that reconnects at once: the service may have been killed a moment ago."""
    options = [
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ]
    return grpc.insecure_channel(platform.address("image"), options)


def metadata(platform: Platform) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {platform.key}"),)


def by_grpc(platform: Platform, wish: Wish) -> list[bytes]:
    with channel(platform) as opened:
        answer = ImageServiceStub(opened).Generate(
            wish.request(), metadata=metadata(platform), timeout=TIMEOUT_S
        )
    return [image.data for image in answer.images]


def by_webui(platform: Platform, wish: Wish) -> list[bytes]:
    answer = post(platform, "/sdapi/v1/txt2img", wish.webui())
    answer.raise_for_status()
    return [base64.b64decode(image) for image in answer.json()["images"]]


def by_openai(platform: Platform, wish: Wish) -> list[bytes]:
    answer = post(platform, "/v1/images/generations", wish.openai())
    answer.raise_for_status()
    return [base64.b64decode(image["b64_json"]) for image in answer.json()["data"]]


DIALECTS: dict[str, Callable[[Platform, Wish], list[bytes]]] = {
    "gRPC": by_grpc,
    "WebUI": by_webui,
    "OpenAI": by_openai,
}


def post(platform: Platform, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(platform.url + path, json=body, headers=platform.headers(), timeout=TIMEOUT_S)


def depth(platform: Platform) -> int:
    """Jobs that wait or run."""
    return _queue(platform).depth


def completed(platform: Platform) -> int:
    """Jobs that came to their own end; those that were cancelled are none of them."""
    return _queue(platform).completed_24h


def progress(platform: Platform, job: str = "") -> progress_pb2.Progress:
    """How far a job is; without its ID, the one that has run longest."""
    with channel(platform) as opened:
        return ImageServiceStub(opened).GetProgress(
            image_service_pb2.GetProgressRequest(job_id=job),
            metadata=metadata(platform),
            timeout=TIMEOUT_S,
        )


def _queue(platform: Platform) -> queue_pb2.QueueStatus:
    with channel(platform) as opened:
        return ImageServiceStub(opened).GetQueueStatus(
            image_service_pb2.GetQueueStatusRequest(),
            metadata=metadata(platform),
            timeout=TIMEOUT_S,
        )


def until(condition: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.02)
