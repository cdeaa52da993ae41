"""botserver's model routes: the catalogue of a real ModelService."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_pb

from tests.integration.gateway.botserver.conftest import ADMIN, API, USER, Whole
from tests.integration.gateway.botserver.test_botserver_http import check

MODELS = f"{API}/models"
CONFIG = f"{MODELS}/base/config"
READY = model_pb2.Observation.STATE_READY
FAILED = model_pb2.Observation.STATE_FAILED


async def deploy(
    whole: Whole, name: str = "new", headers: dict[str, str] | None = None, **more: Any
) -> Any:
    body = {"name": name, "source": whole.weights, "type": "chat"} | more
    return await whole.http.post(f"{MODELS}/deploy", json=body, headers=headers or whole.manager)


async def test_the_list_is_a_bare_array(whole: Whole) -> None:
    await whole.report("base", READY)
    await whole.report("vectors", FAILED)
    answer = await whole.http.get(MODELS, headers=whole.manager)
    assert answer.status_code == 200
    found = {model["name"]: model for model in answer.json()}
    assert {name: model["status"] for name, model in found.items()} == {
        "base": "deploying",  # the reporter has told of something else since
        "vectors": "failed",
        "writer": "deploying",
    }
    assert found["vectors"]["type"] == "embedding"
    base = found["base"]
    assert base.pop("created_at").endswith("Z")
    assert base == {
        "id": "base",
        "name": "base",
        "type": "chat",
        "status": "deploying",
        "version": "1",
        "context_length": 64,
        "dimensions": None,
        "loaded": False,
        "base_model": None,
    }


async def test_one_model(whole: Whole) -> None:
    await whole.report("base", READY)
    for name in ("base", "default", "%62ase"):
        body = (await whole.http.get(f"{MODELS}/{name}", headers=whole.manager)).json()
        assert (body["id"], body["status"], body["loaded"]) == ("base", "ready", True)


async def test_unknown_models(whole: Whole) -> None:
    for name in ("none", "org%2Fnone", "a:b", "%20", "a%00b", "é", "x" * 400):
        for method, path in (
            ("GET", name),
            ("DELETE", name),
            ("GET", f"{name}/config"),
            ("PUT", f"{name}/config"),
        ):
            answer = await whole.http.request(method, f"{MODELS}/{path}", headers=ADMIN)
            check(answer, 404, "not_found")


async def test_a_model_is_deployed_and_removed(whole: Whole) -> None:
    answer = await deploy(whole, "org/new:1", context_length=32, default_temperature=0.25)
    assert answer.status_code == 202
    body = answer.json()
    assert (body["id"], body["status"], body["context_length"]) == ("org/new:1", "deploying", 32)
    config = await whole.http.get(f"{MODELS}/org%2Fnew:1/config", headers=ADMIN)
    assert config.json()["config"]["default_temperature"] == 0.25
    check(await deploy(whole, "org/new:1"), 409, "conflict")
    removed = await whole.http.delete(f"{MODELS}/org%2Fnew:1", headers=whole.manager)
    assert (removed.status_code, removed.json()) == (200, {"id": "org/new:1", "status": "removed"})
    gone = await whole.http.get(f"{MODELS}/org%2Fnew:1", headers=whole.manager)
    check(gone, 404, "not_found")


async def test_a_deployment_may_be_waited_for(whole: Whole) -> None:
    waiting = asyncio.create_task(deploy(whole, wait=True))
    request = model_pb.GetModelRequest(name="models/new")
    known = False
    while not known and not waiting.done():
        listed = await whole.http.get(MODELS, headers=whole.manager)
        known = "new" in {model["id"] for model in listed.json()}
    await whole.report("new", READY)
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (201, "ready")
    metadata = (("authorization", "Bearer admin-token"),)
    assert (await whole.models.GetModel(request, metadata=metadata)).serving_revisions


async def test_a_deployment_may_be_repeated(whole: Whole) -> None:
    headers = {**whole.manager, "idempotency-key": "once"}
    assert (await deploy(whole, headers=headers)).status_code == 202
    assert (await deploy(whole, headers=headers)).status_code == 202
    check(await deploy(whole), 409, "conflict")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "deploy"}, "name"),
    ({"name": "-x"}, "name"),
    ({"name": 5}, "name"),
    ({"source": "/nowhere/at/all"}, "source"),
    ({"source": None}, "source"),
    ({"type": "magic"}, "type"),
    ({"type": None}, "type"),
    ({"base_model": "nobody"}, "base_model"),
    ({"context_length": 0}, "context_length"),
    ({"context_length": 2**31}, "context_length"),
    ({"replicas": 1.5}, "replicas"),
    ({"quantization": "int3"}, "quantization"),
    ({"default_temperature": 2.5}, "default_temperature"),
    ({"wait": "yes"}, "wait"),
]


async def test_what_can_not_be_deployed(whole: Whole) -> None:
    for change, field in WRONG:
        answer = await deploy(whole, **change)
        assert answer.status_code in (400, 404), answer.text
        message = check(answer, answer.status_code, answer.json()["error"])
        assert field in message, message


async def test_what_is_in_use_stays(whole: Whole) -> None:
    (whole.training.folder.parent / "weights" / "adapter_config.json").write_text("{}")
    assert (await deploy(whole, "tuned", base_model="base")).status_code == 202
    refused = await whole.http.delete(f"{MODELS}/base", headers=whole.manager)
    check(refused, 400, "bad_request")


async def test_settings(whole: Whole) -> None:
    first = await whole.http.get(CONFIG, headers=ADMIN)
    assert first.status_code == 200
    body = first.json()
    version = body["version"]
    assert first.headers["etag"] == f'"{version}"'
    assert body == {
        "model_id": "base",
        "version": version,
        "config": {
            "context_length": 64,
            "default_temperature": None,
            "default_top_p": None,
            "default_max_tokens": None,
            "max_batch_size": None,
            "system_prompt": "",
            "stop": [],
        },
    }
    changes = {"default_temperature": 0.7, "stop": ["END"], "default_top_p": None}
    changed = await whole.http.put(CONFIG, json=changes, headers=ADMIN)
    assert changed.status_code == 200
    assert changed.json()["config"] == body["config"] | {
        "default_temperature": 0.7,
        "stop": ["END"],
    }
    assert changed.json()["version"] > version
    same = await whole.http.put(CONFIG, json=changed.json(), headers=ADMIN)  # as it came
    assert same.json()["config"] == changed.json()["config"]
    stale = await whole.http.put(CONFIG, json={**body, "config": {"stop": []}}, headers=ADMIN)
    check(stale, 409, "conflict")
    emptied = await whole.http.put(
        f"{MODELS}/default/config", json={"config": {"stop": []}}, headers=ADMIN
    )
    assert (emptied.json()["model_id"], emptied.json()["config"]["stop"]) == ("base", [])


@pytest.mark.parametrize("quoted", ["{}", '"{}"', 'W/"{}"'])
async def test_only_what_was_read_is_changed(whole: Whole, quoted: str) -> None:
    version = (await whole.http.get(CONFIG, headers=ADMIN)).json()["version"]
    known = {**ADMIN, "if-match": quoted.format(version)}
    assert (await whole.http.put(CONFIG, json={"stop": ["a"]}, headers=known)).status_code == 200
    check(await whole.http.put(CONFIG, json={"stop": ["b"]}, headers=known), 409, "conflict")
    any_state = {**ADMIN, "if-match": "*"}
    assert (await whole.http.put(CONFIG, json={"stop": []}, headers=any_state)).status_code == 200


WRONG_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"default_temperature": 3}, "default_temperature"),
    ({"config": {"default_top_p": "x"}}, "config.default_top_p"),
    ({"config": {}, "stop": []}, "stop"),
    ({"temperature": 1}, "temperature"),
    ({"context_length": 128}, "context_length"),
    ({"config": {}, "model_id": "writer"}, "model_id"),
    ({"max_tokens_limit": 5}, "max_tokens_limit"),
]


async def test_wrong_settings(whole: Whole) -> None:
    for body, field in WRONG_SETTINGS:
        message = check(await whole.http.put(CONFIG, json=body, headers=ADMIN), 400, "bad_request")
        assert f"'{field}'" in message


async def test_plain_users_see_none_of_it(whole: Whole) -> None:
    check(await whole.http.get(MODELS, headers=USER), 403, "forbidden")
    check(await whole.http.get(CONFIG, headers=whole.manager), 403, "forbidden")
