"""One story three times: on the platform's own engines, on Triton, and on Triton behind Envoy.

Only settings differ. Of Triton's platforms the second has identities, mutual TLS between all of its
processes, and is entered through a real Envoy alone; both are served by the same real Triton, from
a repository that the exporters of `penstock triton export` have written.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.cli.triton_export import EXPORTERS
from services.tritonserver.export.options import read_options
from tests.e2e import story
from tests.e2e.drawing import MODEL as PAINTER
from tests.e2e.drawing import depth
from tests.e2e.envoy_process import alone, envoy
from tests.e2e.envoy_render import Options
from tests.e2e.library import CHAT, EMBEDDER, Library, document
from tests.e2e.mid_stream import LONG_DRAWN, Told, dialects
from tests.e2e.secured import secured
from tests.e2e.stack import (
    IMAGE_STARTER,
    MINILM,
    STARTER,
    USER_TOKEN,
    Platform,
    configuration,
    running,
    until,
)
from tests.e2e.story import Place
from tests.integration.access.certificates import Authority
from tests.triton_models import add_ticker
from tests.triton_server import TritonServer, running_triton

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
PLACES = ("embedded", "on_triton", "behind_envoy")
SERVICES = ("model", "inference", "embedding", "image", "retrieval")
MODELS: dict[str, dict[str, Any]] = {
    CHAT: {"path": str(STARTER), "type": "chat"},
    EMBEDDER: {"path": str(MINILM), "type": "embedding"},
    PAINTER: {"path": str(IMAGE_STARTER), "type": "image"},
}
TICKER = "ticker"
SLOW = {TICKER: {"path": str(STARTER), "type": "chat"}}
"""A model on Triton whose answers last for minutes."""
ON_TRITON = """
[services.inference]
engine = "triton"
[services.embedding]
engine = "triton"
[services.image]
engine = "triton"
[triton]
endpoints = ["{address}"]
health_interval_s = 0.2
manage_models = {manages}
"""


def settings(triton: TritonServer, *, manages: bool) -> str:
    extra = ON_TRITON.format(address=triton.address, manages=str(manages).lower())
    return configuration(MODELS | SLOW, extra)


def place_of(platform: Platform) -> Place:
    targets = {service: platform.address(service) for service in SERVICES}
    return Place(platform.url, USER_TOKEN, targets, metrics_of(targets))


def metrics_of(addresses: dict[str, str]) -> dict[str, str]:
    """Where processes serve their metrics by default."""
    parts = {service: address.rpartition(":") for service, address in addresses.items()}
    return {
        service: f"http://{host}:{int(port) + 1000}/metrics"
        for service, (host, _, port) in parts.items()
    }


@pytest.fixture(scope="module")
def embedded(platform: Platform) -> Iterator[Place]:
    call: Any = {"metadata": (("authorization", f"Bearer {platform.key}"),), "timeout": 240}
    with grpc.insecure_channel(platform.address("model")) as channel:
        models = ModelServiceStub(channel)
        painter = model_service_pb2.DeployModelRequest(
            model_id=PAINTER, source=str(IMAGE_STARTER), kind=model_pb2.MODEL_KIND_IMAGE, wait=True
        )
        assert models.DeployModel(painter, **call).state == model_pb2.Model.STATE_READY
        yield place_of(platform)
        models.DeleteModel(model_service_pb2.DeleteModelRequest(name=f"models/{PAINTER}"), **call)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with running_triton() as server:
        for model, fields in MODELS.items():
            exporter = importlib.import_module(EXPORTERS[fields["type"]])
            given = {"name": model, "weights": "link", "threads": 1, "warmup": False}
            folder = Path(fields["path"])
            exporter.export(folder, server.repository, fields["type"], read_options(given))
        add_ticker(server, TICKER, token_s=0.05)
        yield server


@pytest.fixture(scope="module")
def served(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform as `penstock serve` runs it, on Triton."""
    with running(tmp_path_factory.mktemp("on-triton"), settings(triton, manages=True)) as platform:
        yield platform


@pytest.fixture(scope="module")
def on_triton(served: Platform) -> Place:
    return place_of(served)


@pytest.fixture(scope="module")
def behind_envoy(
    triton: TritonServer, on_triton: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Waits for the models that the other platform loads: only one is to manage them."""
    folder = tmp_path_factory.mktemp("behind-envoy")
    authority, names = Authority(folder), (*SERVICES, "gateway")
    with secured(folder, authority, settings(triton, manages=False), names) as platform:
        at = {
            ("edge" if name == "gateway" else name): (address,)
            for name, address in platform.addresses.items()
        }
        options = Options(mtls=True, endpoints=alone(**at), secrets=platform.secrets("secrets"))
        with envoy(folder / "envoy", options, healthy=list(at)) as front:
            place = Place(
                url=front.url.replace("127.0.0.1", "localhost"),
                key=USER_TOKEN,
                targets=dict.fromkeys(SERVICES, front.address.replace("127.0.0.1", "localhost")),
                metrics=metrics_of(platform.addresses),
                ca=platform.identities["front"].ca,
            )
            until_ready(place)
            yield place


def until_ready(place: Place) -> None:
    """Waits until all models answer."""
    with place.channel("model") as channel:
        stub = ModelServiceStub(channel)
        call: Any = {"metadata": place.metadata, "timeout": story.TIMEOUT_S}
        for model in (*MODELS, TICKER):
            request = model_service_pb2.GetModelRequest(name=f"models/{model}")
            ready = model_pb2.Model.STATE_READY
            until(lambda: stub.GetModel(request, **call).state == ready, 240, 0.5)  # noqa: B023


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def told(embedded: Place) -> dict[Callable[[Place], Any], Any]:
    """What the platform's own engines gave."""
    return {
        part: part(embedded)
        for part in (story.chats, story.draws, story.asks_documents, story.embeds)
    }


@pytest.mark.parametrize("part", [story.chats, story.asks_documents])
def test_the_same_story(place: Place, told: dict[Any, Any], part: Callable[[Place], Any]) -> None:
    assert part(place) == told[part]


def test_the_same_picture(place: Place, told: dict[Any, Any]) -> None:
    # The last bits are those of a number of threads, and Triton has one.
    ours, theirs = (story.colours(drawn) for drawn in (story.draws(place), told[story.draws]))
    assert max(abs(one - other) for one, other in zip(ours, theirs, strict=True)) <= 1


def test_the_same_vectors(place: Place, told: dict[Any, Any]) -> None:
    for ours, theirs in zip(story.embeds(place), told[story.embeds], strict=True):
        assert story.cosine(ours, theirs) > 0.999


def test_models_can_what_their_capabilities_name(place: Place, embedded: Place) -> None:
    able = story.can_what_it_names(place)
    assert all(able.values()) == (place is embedded), "the python layout of Triton guides nothing"


def test_metrics_name_the_models(place: Place) -> None:
    story.is_measured(place)


@pytest.mark.parametrize("place", PLACES[1:], indirect=True)
def test_a_caller_that_leaves_is_cancelled_in_triton(triton: TritonServer, place: Place) -> None:
    before = triton.log.count("cancelled: ")
    body = {"model": TICKER, "messages": story.STORY["messages"], "stream": True}
    with place.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if "data: " in line)
        while not json.loads(next(lines))["choices"][0]["delta"].get("content"):
            pass
    until(lambda: triton.log.count("cancelled: ") > before)


def test_a_killed_triton_is_told_of_in_every_dialect_and_comes_back(
    triton: TritonServer, served: Platform, on_triton: Place, behind_envoy: Place
) -> None:
    shelf = "stars"
    with on_triton.channel("retrieval") as channel:
        library = Library(channel, on_triton.key)
        library.create(shelf)
        library.put(shelf, [document("mars", "The sky on Mars is red.")])
    with Told() as told:
        told.begin_calls(on_triton, TICKER, shelf)
        told.post(on_triton, "/sdapi/v1/txt2img", LONG_DRAWN.webui())
        told.post(on_triton, "/v1/images/generations", LONG_DRAWN.openai())
        until(lambda: depth(served) == 3)
        for name, dialect in dialects(TICKER, shelf).items():
            # The native form of REST is Envoy's; OpenAI's is asked for in both places.
            if name != "native":
                told.begin(on_triton, name, dialect)
            if name in ("native", "openai chat"):
                told.begin(behind_envoy, f"{name} through Envoy", dialect)
        triton.kill()
        messages = dict(told.messages())
    assert len(messages) == 16
    assert {name: said for name, said in messages.items() if "Triton" not in said} == {}
    for place in (on_triton, behind_envoy):
        for model in (*MODELS, TICKER):
            until(lambda: place.model(model).state != model_pb2.Model.STATE_READY)  # noqa: B023
        with place.http() as http:
            refused = http.post("/v1/chat/completions", json=story.GREEDY)
        assert refused.status_code == 503, refused.text
    triton.start()
    for place in (on_triton, behind_envoy):
        until_ready(place)
        story.chats(place)
