"""The Open Inference Protocol over REST, with tensors as JSON and as bytes."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.description import description
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADER = "inference-header-content-length"
NUMBERS = {
    "BOOL": [True, False],
    **{f"INT{size}": [-1, 100] for size in (8, 16, 32)},
    "INT64": [-(2**63), 2**63 - 1],
    **{f"UINT{size}": [1, 200] for size in (8, 16, 32)},
    "UINT64": [0, 2**64 - 1],
    **{name: [0.5, -2.0] for name in ("FP16", "BF16", "FP32", "FP64")},
    "BYTES": ["a", "ü\0"],
}


def tensor(datatype: str = "FP32", data: Any = (1.5,), **more: Any) -> dict[str, Any]:
    return {"name": "input", "datatype": datatype, "shape": [len(data)], "data": data, **more}


def binary(datatype: str, shape: list[int], size: int, **more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {
        "name": "input",
        "datatype": datatype,
        "shape": shape,
        "parameters": parameters,
        **more,
    }


async def infer(
    http: httpx.AsyncClient,
    model: str,
    body: Any,
    tail: bytes = b"",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    head = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {HEADER: str(len(head))} if tail else {}
    return await http.post(
        f"/v2/models/{model}/infer", content=head + tail, headers=told | (headers or {})
    )


@pytest.mark.parametrize("datatype", NUMBERS)
async def test_every_type_as_json(http: httpx.AsyncClient, datatype: str) -> None:
    body = {"inputs": [tensor(datatype, NUMBERS[datatype])], "id": "mine"}
    answer = await infer(http, datatype, body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "model_name": datatype,
        "id": "mine",
        "outputs": [
            {"name": "output", "datatype": datatype, "shape": [2], "data": NUMBERS[datatype]}
        ],
    }


@pytest.mark.parametrize("datatype", NUMBERS)
async def test_every_type_as_bytes(http: httpx.AsyncClient, datatype: str) -> None:
    sized = datatype.rpartition("T")[2] if "INT" in datatype else datatype[-2:]
    size = 1 if datatype == "BOOL" else int(sized) // 8 if datatype != "BYTES" else 0
    data = b"\1\0" * size if size else b"\2\0\0\0\xff\0\0\0\0\0"
    body = {
        "inputs": [binary(datatype, [2], len(data))],
        "parameters": {"binary_data_output": True},
    }
    answer = await infer(http, datatype, body, data)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER])
    [output] = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": len(data)}
    assert "data" not in output
    assert answer.content[length:] == data


async def test_nested_data_and_bytes_only_where_they_are_wanted(http: httpx.AsyncClient) -> None:
    nested = tensor(data=[[1, 2], [3, 4]], shape=[2, 2])
    wanted = {"name": "output", "parameters": {"binary_data": True}}
    whole = {"inputs": [nested], "outputs": [wanted]}
    answer = await infer(http, "FP32", whole)
    assert answer.content.endswith(struct.pack("<4f", 1, 2, 3, 4))
    plain = await infer(http, "FP32", whole | {"outputs": [{"name": "output"}]})
    assert plain.json()["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]
    assert plain.json()["outputs"][0]["shape"] == [2, 2]
    scalar = await infer(http, "INT8", {"inputs": [tensor("INT8", [7], shape=[])]})
    assert scalar.json()["outputs"][0] == {
        "name": "output",
        "datatype": "INT8",
        "shape": [],
        "data": [7],
    }
    empty = await infer(http, "FP32", {"inputs": [tensor(data=[], shape=[0, 3])]})
    assert empty.json()["outputs"][0]["data"] == []


@pytest.mark.parametrize("deflated", ["gzip", "deflate"])
async def test_bodies_may_be_deflated(http: httpx.AsyncClient, deflated: str) -> None:
    head = json.dumps({"inputs": [binary("FP32", [1], 4)]}).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[deflated](head + bytes(4))
    headers = {"content-encoding": deflated, HEADER: str(len(head))}
    answer = await http.post("/v2/models/FP32/infer", content=packed, headers=headers)
    assert answer.json()["outputs"][0]["data"] == [0.0]
    for broken in (packed[:-6], b"x" + packed, packed + b"x", b""):
        answer = await http.post("/v2/models/FP32/infer", content=broken, headers=headers)
        assert answer.status_code == 400, answer.text
    bomb = {"gzip": gzip.compress, "deflate": zlib.compress}[deflated](bytes(6 * 1024 * 1024))
    answer = await http.post("/v2/models/FP32/infer", content=bomb, headers=headers)
    assert answer.status_code == 413


async def test_what_serves(http: httpx.AsyncClient, url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as nobody:
        assert (await nobody.get("/v2/health/live")).json() == {"live": True}
        assert (await nobody.get("/v2/health/ready")).json() == {"ready": True}
        for method, path in (
            ("GET", "/v2"),
            ("GET", "/v2/models/FP32"),
            ("GET", "/v2/models/FP32/ready"),
            ("POST", "/v2/models/FP32/infer"),
        ):
            answer = await nobody.request(method, path)
            assert answer.status_code == 401
            assert list(answer.json()) == ["error"]
    server = (await http.get("/v2")).json()
    assert (server["name"], server["extensions"]) == ("penstock", ["binary_tensor_data"])
    expected = {
        "FP32": 200,
        "org/texts": 200,
        "talker": 200,
        "FP32/versions/3": 200,
        "FP32/versions/4": 404,
        "nobody": 404,
        "loading": 503,
        "vectors": 400,
    }
    for name, status in expected.items():
        assert (await http.get(f"/v2/models/{name}/ready")).status_code == status, name


async def test_what_a_model_is(http: httpx.AsyncClient) -> None:
    for path in ("org/texts", "org/texts/versions/3"):
        answer = await http.get(f"/v2/models/{path}")
        assert answer.json() == {
            "name": "org/texts",
            "versions": ["3"],
            "platform": "echo",
            "inputs": [{"name": "input", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "output", "datatype": "BYTES", "shape": [-1]}],
        }
    answer = await http.get("/v2/models/talker")
    assert (answer.status_code, "takes text" in answer.json()["error"]) == (400, True)


async def test_a_version_that_is_named_is_told(http: httpx.AsyncClient) -> None:
    answer = await infer(http, "FP32/versions/3", {"inputs": [tensor()]})
    assert answer.json()["model_version"] == "3"
    answer = await infer(http, "FP32/versions/9", {"inputs": [tensor()]})
    assert answer.status_code == 404
    assert "Version 9" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "tail", "said"),
    [
        ({}, b"", "'inputs'"),
        ({"inputs": []}, b"", "'inputs'"),
        ({"inputs": [{"name": "input"}]}, b"", "'inputs[0].shape'"),
        ({"inputs": [tensor(shape=[-1])]}, b"", "'inputs[0].shape[0]'"),
        ({"inputs": [tensor(shape=[2**31])]}, b"", "'inputs[0].shape[0]'"),
        ({"inputs": [tensor(shape=[2])]}, b"", "'inputs[0].data'"),
        ({"inputs": [tensor(data=[[1], [2]], shape=[1, 2])]}, b"", "'inputs[0].data'"),
        ({"inputs": [tensor(data=[[1], 2], shape=[2])]}, b"", "'inputs[0].data'"),
        ({"inputs": [tensor(data=["x"])]}, b"", "'inputs[0].data[0]'"),
        ({"inputs": [tensor("FP8")]}, b"", "'inputs[0].datatype'"),
        ({"inputs": [tensor("FP64")]}, b"", "'inputs[0].datatype'"),
        ({"inputs": [tensor(name="x")]}, b"", "'inputs[0].name'"),
        ({"inputs": [tensor(), tensor()]}, b"", "'inputs[1].name'"),
        ({"inputs": [binary("FP32", [1], 4)]}, b"", "has 0 bytes behind its JSON"),
        ({"inputs": [binary("FP32", [1], 4)]}, bytes(5), "has 5 bytes behind its JSON"),
        ({"inputs": [binary("FP32", [1], 3)]}, bytes(3), "'inputs[0].data'"),
        ({"inputs": [binary("FP32", [1], 4, data=[1])]}, bytes(4), "'inputs[0].data'"),
        ({"inputs": [binary("FP32", [1], -4)]}, b"", "binary_data_size"),
        ({"inputs": [tensor(parameters={"binary_data_size": "4"})]}, b"", "binary_data_size"),
        ({"inputs": [tensor(parameters={"x": 1})]}, b"", "'inputs[0].parameters.x'"),
        (
            {"inputs": [tensor(parameters={"shared_memory_region": "x"})]},
            b"",
            "no shared memory",
        ),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, b"", "'outputs[0].name'"),
        ({"inputs": [tensor()], "outputs": [{"name": "output"}] * 2}, b"", "'outputs[1].name'"),
        (
            {
                "inputs": [tensor()],
                "outputs": [{"name": "output", "parameters": {"classification": 2}}],
            },
            b"",
            "'outputs[0].parameters.classification'",
        ),
        ({"inputs": [tensor()], "parameters": {"sequence_id": 1}}, b"", "sequence_id"),
        ({"inputs": [tensor()], "parameters": {"priority": 1}}, b"", "priority"),
        ({"inputs": [tensor()], "parameters": {"timeout": -1}}, b"", "timeout"),
        (
            {"inputs": [tensor()], "parameters": {"binary_data_output": 1}},
            b"",
            "binary_data_output",
        ),
    ],
)
async def test_what_is_refused(http: httpx.AsyncClient, body: Any, tail: bytes, said: str) -> None:
    answer = await infer(http, "FP32", body, tail)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


async def test_texts_that_json_can_not_tell(http: httpx.AsyncClient) -> None:
    answer = await infer(http, "BYTES", {"inputs": [binary("BYTES", [1], 5)]}, b"\1\0\0\0\xff")
    assert answer.status_code == 400
    assert "binary data" in answer.json()["error"]


@pytest.mark.parametrize(
    ("model", "status"),
    [("nobody", 404), ("loading", 503), ("talker", 400), ("vectors", 400), ("%00", 404)],
)
async def test_other_models(http: httpx.AsyncClient, model: str, status: int) -> None:
    answer = await infer(http, model, {"inputs": [tensor()]})
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]


async def test_a_header_that_lies(http: httpx.AsyncClient) -> None:
    body = {"inputs": [tensor()]}
    for told in ("-1", "x", "99999", "0", "9" * 50, "١", "1.0"):
        headers = {HEADER.encode(): told.encode()}
        answer = await http.post("/v2/models/FP32/infer", json=body, headers=headers)
        assert answer.status_code == 400
        assert "Inference-Header-Content-Length" in answer.json()["error"]
    answer = await infer(http, "FP32", body, headers={"content-encoding": "br"})
    assert "gzip or deflate" in answer.json()["error"]


async def test_what_is_not_served_says_what_is(http: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", "models/FP32/config"),
        ("GET", "models/org/texts/versions/3/stats"),
        ("GET", "models/stats"),
        ("POST", "repository/index"),
        ("POST", "repository/models/org/texts/load"),
        ("GET", "systemsharedmemory/status"),
        ("POST", "cudasharedmemory/region/x/register"),
        ("POST", "trace/setting"),
        ("GET", "logging"),
    ):
        answer = await http.request(method, f"/v2/{path}")
        assert answer.status_code == 501, path
        assert len(answer.json()["error"]) > 30
    for path in ("/v2/nonsense", "/v2/models/FP32/infer/x"):
        answer = await http.post(path)
        assert answer.status_code in (404, 405)
        assert list(answer.json()) == ["error"]


async def test_the_other_path_under_the_prefix_is_still_another_dialects(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post("/v2/rerank", json={})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_answers_are_as_the_document_says(http: httpx.AsyncClient) -> None:
    document = description()
    answers = {
        ("get", "/v2"): await http.get("/v2"),
        ("get", "/v2/health/live"): await http.get("/v2/health/live"),
        ("get", "/v2/health/ready"): await http.get("/v2/health/ready"),
        ("get", "/v2/models/{model}"): await http.get("/v2/models/FP32"),
        ("get", "/v2/models/{model}/ready"): await http.get("/v2/models/FP32/ready"),
        ("post", "/v2/models/{model}/infer"): await infer(http, "FP32", {"inputs": [tensor()]}),
    }
    for (method, path), answer in answers.items():
        content = document["paths"][path][method]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"] | {"components": document["components"]}
        jsonschema.validate(answer.json(), schema)


async def test_horrors(http: httpx.AsyncClient) -> None:
    for body in HORRORS.values():
        answer = await infer(http, "FP32", body)
        assert answer.status_code == 400, answer.text
        assert list(answer.json()) == ["error"]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_generated_bodies(http: httpx.AsyncClient, data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from([*NUMBERS, "FP8"]))
    names = ("binary_data_size", "binary_data", "binary_data_output", "timeout", "x")
    parameters = st.dictionaries(st.sampled_from(names), JSON, max_size=1)
    given = st.fixed_dictionaries(
        {"name": st.just("input"), "datatype": st.just(datatype)},
        optional={
            "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
            "data": JSON | st.just(NUMBERS.get(datatype, [])),
            "parameters": parameters,
        },
    )
    whole = st.fixed_dictionaries(
        {"inputs": st.lists(given, max_size=2) | JSON},
        optional={
            "outputs": st.just([{"name": "output"}]) | JSON,
            "parameters": parameters,
            "id": JSON,
        },
    )
    head = json.dumps(data.draw(whole)).encode("utf-8", "replace")
    tail = data.draw(st.binary(max_size=20))
    told = data.draw(st.sampled_from([None, len(head), len(head) + 1]))
    answer = await http.post(
        f"/v2/models/{datatype}/infer",
        content=head + tail,
        headers={} if told is None else {HEADER: str(told)},
    )
    assert answer.status_code in (200, 400, 404), answer.text
    assert answer.status_code == 200 or list(answer.json()) == ["error"]


async def test_many_numbers(http: httpx.AsyncClient) -> None:
    array = np.arange(500_000, dtype="<f4")
    body = {
        "inputs": [binary("FP32", [500_000], array.nbytes)],
        "outputs": [{"name": "output", "parameters": {"binary_data": True}}],
    }
    answer = await infer(http, "FP32", body, array.tobytes())
    assert answer.content.endswith(array.tobytes())
    many = {"inputs": [binary("INT8", [2**22 + 1], 2**22 + 1)]}
    answer = await infer(http, "INT8", many, bytes(2**22 + 1))
    assert (answer.status_code, "binary data" in answer.json()["error"]) == (413, True)
    body["inputs"] = [binary("FP32", [2_000_000], 8_000_000)]
    answer = await infer(http, "FP32", body, bytes(8_000_000))
    assert answer.status_code == 413
