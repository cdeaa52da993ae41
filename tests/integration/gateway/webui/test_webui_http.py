"""The WebUI's routes over real sockets: answers, credentials, refusals, disconnects."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from typing import Any

import httpx
import pytest
from penstock.image.v1 import image_pb2, progress_pb2
from PIL import Image

from tests.integration.gateway.conftest import TOKEN, Edge
from tests.integration.gateway.image_peer import CHECKPOINTS, SEED, picture
from tests.integration.gateway.test_edge_streams import raw_request, read_head

API = "/sdapi/v1"
TXT, IMG = f"{API}/txt2img", f"{API}/img2img"
FIRST, SECOND = (checkpoint.title for checkpoint in CHECKPOINTS)
NEVER = (
    *("upscalers", "latent-upscale-modes", "sd-vae", "loras", "hypernetworks", "face-restorers"),
    *("realesrgan-models", "prompt-styles", "extensions", "script-info"),
)
BEGUN = 1_767_323_045
INIT = base64.b64encode(picture(1)).decode()


def sent(edge: Edge) -> image_pb2.ImageRequest:
    return edge.vectors.images.requests[-1]


def envelope(answer: httpx.Response) -> dict[str, str]:
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "details"]
    return body["error"]


async def test_txt2img(edge: Edge) -> None:
    answer = await edge.http.post(TXT, json={"prompt": "a cat", "n_iter": 2, "width": 519})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert list(body) == ["images", "parameters", "info"]
    for number, text in enumerate(body["images"]):
        file = base64.b64decode(text, validate=True)
        assert file == picture(SEED + number, json.loads(body["info"])["infotexts"][number])
        with Image.open(io.BytesIO(file)) as image:
            assert image.info["parameters"].startswith("a cat\nSteps: 20")
    assert len(body["images"]) == 2
    info = json.loads(body["info"])
    assert info["all_seeds"] == [SEED, SEED + 1]
    assert isinstance(info["seed"], int)
    assert isinstance(info["cfg_scale"], float)
    assert info["face_restoration_model"] is None
    parameters = body["parameters"]
    expected = {
        "prompt": "a cat",
        "negative_prompt": "",
        "seed": SEED,
        "width": 512,
        "height": 512,
        "steps": 20,
        "cfg_scale": 7.5,
        "sampler_name": "Euler a",
        "scheduler": "automatic",
        "batch_size": 1,
        "n_iter": 2,
        "override_settings": {},
        "alwayson_scripts": {},
        "script_args": [],
        "styles": [],
        "send_images": True,
    }
    assert {name: parameters[name] for name in expected} == expected
    request = sent(edge)
    assert edge.vectors.images.metadata[-1]["authorization"] == f"Bearer {TOKEN}"
    assert request.preview_interval_steps == 10
    assert not request.HasField("variation")
    assert not request.HasField("sampler_tuning")


async def test_images_are_left_out_on_request(edge: Edge) -> None:
    answer = await edge.http.post(TXT, json={"prompt": "x", "send_images": False})
    assert answer.json()["images"] == []
    assert answer.json()["parameters"]["send_images"] is False


async def test_img2img(edge: Edge) -> None:
    request = {"prompt": "x", "init_images": [f"data:image/png;base64,{INIT}"], "mask": INIT}
    answer = await edge.http.post(IMG, json=request)
    assert answer.status_code == 200
    assert list(sent(edge).init_images) == [picture(1)]
    assert sent(edge).inpainting.mask == picture(1)
    assert sent(edge).denoising_strength == 0.75
    parameters = answer.json()["parameters"]
    assert (parameters["init_images"], parameters["mask"]) == (None, None)
    assert parameters["mask_blur"] == 4
    answer = await edge.http.post(IMG, json={**request, "include_init_images": True})
    parameters = answer.json()["parameters"]
    assert (parameters["init_images"], parameters["mask"]) == (request["init_images"], INIT)


async def test_a_large_batch_fits(edge: Edge) -> None:
    """Images come one by one: together they are larger than any message may be."""
    answer = await edge.http.post(TXT, json={"prompt": "huge", "batch_size": 9}, timeout=60)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    images = answer.json()["images"]
    assert len(images) == 9
    assert sum(map(len, images)) > 90_000_000


class TestSlowReaders:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"slow_reader_s": 0.2}

    async def test_an_answer_that_nobody_takes_is_let_go(self, edge: Edge) -> None:
        """It isn't handed over as a whole, to lie in the connection's buffer."""
        running = edge.server.server_state.tasks
        reader, writer = await asyncio.open_connection(edge.host, edge.port, limit=1024)
        writer.write(raw_request({"prompt": "huge", "batch_size": 4}, TXT))
        head = await read_head(reader)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert length > 32 << 20
        await edge.backend.until(lambda: not running, 30)
        assert len(await reader.read()) < length
        writer.close()


async def test_generate_image(edge: Edge) -> None:
    answer = await edge.http.post("/generate-image", json={"prompt": "a cat", "seed": 5})
    body = answer.json()
    assert list(body) == ["image_base64", "info"]
    infotext = json.loads(body["info"])["infotexts"][0]
    assert base64.b64decode(body["image_base64"]) == picture(5, infotext)
    request = sent(edge)
    assert (request.sampler, request.cfg_scale, request.steps) == ("DPM++ 2M Karras", 7.0, 20)


@pytest.mark.parametrize("name", [SECOND, FIRST, "first", "0123456789", CHECKPOINTS[0].sha256])
async def test_a_checkpoint_by_any_name(edge: Edge, name: str) -> None:
    settings = {"sd_model_checkpoint": name}
    await edge.http.post(TXT, json={"prompt": "x", "override_settings": settings})
    assert sent(edge).model == ("second" if name == SECOND else "first")


@pytest.mark.parametrize(
    ("name", "options", "status"),
    [
        ("Use same checkpoint", {}, 200),
        (SECOND, {}, 200),  # the one that is loaded
        ("second", {"sd_model_checkpoint": "second"}, 200),
        ("first", {}, 400),
        ("second", {"sd_model_checkpoint": "first"}, 400),
        ("nobody's", {}, 400),
    ],
)
async def test_the_second_pass_has_no_checkpoint_of_its_own(
    edge: Edge, name: str, options: dict[str, Any], status: int
) -> None:
    body = {"prompt": "x", "hr_checkpoint_name": name, "override_settings": options}
    answer = await edge.http.post(TXT, json=body | {"enable_hr": True})
    assert answer.status_code == status
    if status == 400:
        assert envelope(answer)["details"] == "The field at fault is 'hr_checkpoint_name'."
        assert not edge.vectors.images.requests
    answer = await edge.http.post(TXT, json=body)
    assert answer.status_code == 200, "there is no second pass"


async def test_options(edge: Edge) -> None:
    options = (await edge.http.get(f"{API}/options")).json()
    assert options["sd_model_checkpoint"] == SECOND  # the one that is loaded
    assert options["sd_checkpoint_hash"] == CHECKPOINTS[1].sha256
    assert (options["sd_vae"], options["CLIP_stop_at_last_layers"]) == ("Automatic", 1)
    assert options["samples_format"] == "png"
    assert (options["live_previews_enable"], options["show_progress_every_n_steps"]) == (True, 10)
    # What is told may be given back, changed or not.
    for changed in ({}, {"sd_model_checkpoint": FIRST, "CLIP_stop_at_last_layers": 2}):
        answer = await edge.http.post(f"{API}/options", json=options | changed)
        assert answer.status_code == 200
        assert answer.content == b"null"
        assert answer.headers["content-type"] == "application/json"
        options |= changed
        now = (await edge.http.get(f"{API}/options")).json()
        assert now["sd_model_checkpoint"] == options["sd_model_checkpoint"]
        assert now["CLIP_stop_at_last_layers"] == options["CLIP_stop_at_last_layers"]
    for format_ in ("jpg", "webp", "png"):
        await edge.http.post(f"{API}/options", json={"samples_format": format_})
        assert (await edge.http.get(f"{API}/options")).json()["samples_format"] == format_
    await edge.http.post(f"{API}/options", json={"live_previews_enable": False})
    now = (await edge.http.get(f"{API}/options")).json()
    assert (now["live_previews_enable"], now["show_progress_every_n_steps"]) == (False, -1)
    await edge.http.post(TXT, json={"prompt": "x"})
    assert sent(edge).preview_interval_steps == 0
    await edge.http.post(f"{API}/options", json={"live_previews_enable": True})
    assert (await edge.http.get(f"{API}/options")).json()["show_progress_every_n_steps"] == 10
    assert (await edge.http.post(f"{API}/options", content=b"")).content == b"null"


@pytest.mark.parametrize(
    ("options", "status", "code", "field"),
    [
        ({"sd_model_checkpoint": "nobody's"}, 404, "model_not_found", "sd_model_checkpoint"),
        ({"sd_model_checkpont": FIRST}, 400, "invalid_request", "sd_model_checkpont"),
        ({"CLIP_stop_at_last_layers": "2"}, 400, "invalid_request", "CLIP_stop_at_last_layers"),
        ({"CLIP_stop_at_last_layers": 13}, 400, "invalid_request", "CLIP_stop_at_last_layers"),
        ({"samples_format": "gif"}, 400, "invalid_request", "samples_format"),
        ({"return_grid": True}, 400, "invalid_request", "return_grid"),
        ({"jpeg_quality": 5}, 400, "invalid_request", "jpeg_quality"),
        ({"sd_vae": True}, 400, "invalid_request", "sd_vae"),
    ],
)
async def test_bad_options(
    edge: Edge, options: dict[str, Any], status: int, code: str, field: str
) -> None:
    answer = await edge.http.post(f"{API}/options", json=options)
    assert answer.status_code == status
    error = envelope(answer)
    assert error["code"] == code
    assert error["details"] == f"The field at fault is '{field}'."


async def test_progress(edge: Edge) -> None:
    idle = (await edge.http.get(f"{API}/progress")).json()
    assert (idle["progress"], idle["eta_relative"], idle["state"]["job_count"]) == (0, 0, 0)
    assert idle["current_image"] is None
    edge.vectors.images.progress = progress = progress_pb2.Progress(
        job_id="job-7",
        state=progress_pb2.Progress.STATE_RUNNING,
        batch_index=1,
        batch_count=3,
        step=5,
        step_count=20,
        fraction=0.42,
    )
    progress.remaining_duration.FromMilliseconds(2500)
    progress.start_time.seconds = BEGUN
    progress.preview.data = b"preview"
    body = (await edge.http.get(f"{API}/progress")).json()
    assert body == {
        "progress": 0.42,
        "eta_relative": 2.5,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "job-7",
            "job_count": 3,
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(BEGUN)),
            "job_no": 1,
            "sampling_step": 5,
            "sampling_steps": 20,
        },
        "current_image": base64.b64encode(b"preview").decode(),
        "textinfo": None,
        "current_task": "job-7",
    }
    for word, shown in (("true", False), ("1", False), ("False", True), ("0", True)):
        got = await edge.http.get(f"{API}/progress?skip_current_image={word}")
        assert (got.json()["current_image"] is not None) is shown
    answer = await edge.http.get(f"{API}/progress?skip_current_image=perhaps")
    assert answer.status_code == 400
    assert "skip_current_image" in envelope(answer)["message"]
    progress.state = progress_pb2.Progress.STATE_INTERRUPTING
    assert (await edge.http.get(f"{API}/progress")).json()["state"]["interrupted"] is True
    progress.state = progress_pb2.Progress.STATE_QUEUED
    progress.queue_position = 2
    body = (await edge.http.get(f"{API}/progress")).json()
    assert body["textinfo"] == "In queue: 2 before it"
    assert body["state"]["job_count"] == 3
    progress.state = progress_pb2.Progress.STATE_FINISHED
    assert (await edge.http.get(f"{API}/progress")).json() == idle


async def test_progress_by_the_clients_own_id(edge: Edge) -> None:
    """As `force_task_id` named it: what one key draws at once is told apart."""

    async def told(**more: Any) -> dict[str, Any]:
        answer = await edge.http.post("/internal/progress", json={"id_task": "task(a)", **more})
        assert answer.status_code == 200
        assert edge.vectors.images.asked[-1] == "task(a)"
        return answer.json()

    nothing = {
        "active": False,
        "queued": False,
        "completed": False,
        "paused": False,
        "progress": None,
        "eta": None,
        "live_preview": None,
        "id_live_preview": -1,
        "textinfo": "Waiting...",
    }
    assert await told() == nothing
    edge.vectors.images.progress = progress = progress_pb2.Progress(
        job_id="task(a)", state=progress_pb2.Progress.STATE_QUEUED, queue_position=2
    )
    assert await told() == nothing | {"queued": True, "textinfo": "In queue: 2 before it"}
    progress.state = progress_pb2.Progress.STATE_RUNNING
    progress.fraction, progress.batch_index, progress.step_count = 0.25, 1, 20
    progress.remaining_duration.FromMilliseconds(1500)
    running = nothing | {"active": True, "progress": 0.25, "eta": 1.5, "textinfo": None}
    assert await told() == running
    assert await told(id_live_preview=7) == running | {"id_live_preview": 7}
    progress.preview.data, progress.preview.mime_type = b"preview", "image/jpeg"
    progress.preview.step = 10
    shown = f"data:image/jpeg;base64,{base64.b64encode(b'preview').decode()}"
    assert await told() == running | {"live_preview": shown, "id_live_preview": 30}
    assert await told(id_live_preview=7) == running | {
        "live_preview": shown,
        "id_live_preview": 30,
    }
    assert await told(id_live_preview=30) == running | {"id_live_preview": 30}
    progress.state = progress_pb2.Progress.STATE_FINISHED
    assert await told() == nothing | {"completed": True}
    for body in ({}, {"id_task": None}, {"id_task": ""}, {"id_task": "x" * 129}):
        answer = await edge.http.post("/internal/progress", json=body)
        assert answer.status_code == 400
        assert envelope(answer)["details"] == "The field at fault is 'id_task'."


async def test_an_interrupted_job_answers_with_what_it_has(edge: Edge) -> None:
    drawing = asyncio.create_task(edge.http.post(TXT, json={"prompt": "waiting"}))
    await edge.vectors.images.begun.wait()
    answer = await edge.http.post(f"{API}/interrupt")
    assert (answer.status_code, answer.content) == (200, b"{}")
    drawn = await drawing
    assert drawn.status_code == 200
    assert len(drawn.json()["images"]) == 1
    answer = await edge.http.post(f"{API}/skip")
    assert (answer.status_code, answer.content) == (200, b"null")
    assert edge.vectors.images.skips == 1


async def test_a_client_that_leaves_cancels_its_job(edge: Edge) -> None:
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request({"prompt": "waiting"}, TXT))
    await edge.vectors.images.begun.wait()
    writer.close()
    await edge.vectors.images.left.wait()


async def test_png_info(edge: Edge) -> None:
    file = picture(1, "a cat\nSteps: 5")
    for prefix in ("", "data:image/png;base64,"):
        image = prefix + base64.b64encode(file).decode()
        answer = await edge.http.post(f"{API}/png-info", json={"image": image})
        assert answer.json() == {
            "info": "a cat\nSteps: 5",
            "items": {"parameters": "a cat\nSteps: 5"},
            "parameters": {"Prompt": "a cat"},
        }
    for image in ("", "aGVsbG8=", "http://x/y.png", None, 5):
        answer = await edge.http.post(f"{API}/png-info", json={"image": image})
        assert answer.status_code == 400
        assert envelope(answer)["details"] == "The field at fault is 'image'."


async def test_lists(edge: Edge) -> None:
    models = (await edge.http.get(f"{API}/sd-models")).json()
    assert models == (await edge.http.get("/api/sd-models")).json()
    assert [model["title"] for model in models] == [FIRST, SECOND]
    assert set(models[0]) == {"title", "model_name", "hash", "sha256", "filename", "config"}
    assert (await edge.http.get(f"{API}/samplers")).json() == [
        {"name": "Euler a", "aliases": ["k_euler_a"], "options": {"uses_ensd": "True"}},
        {"name": "Heun", "aliases": [], "options": {}},
    ]
    schedulers = (await edge.http.get(f"{API}/schedulers")).json()
    assert [(s["name"], s["label"], s["default_rho"]) for s in schedulers] == [
        ("karras", "Karras", 7.0),
        ("simple", "Simple", -1.0),
    ]
    assert (await edge.http.get(f"{API}/scripts")).json() == {"txt2img": [], "img2img": []}
    assert (await edge.http.get(f"{API}/embeddings")).json() == {"loaded": {}, "skipped": {}}
    assert (await edge.http.get(f"{API}/cmd-flags")).json() == {}
    memory = (await edge.http.get(f"{API}/memory")).json()
    assert memory["ram"]["total"] > memory["ram"]["free"] > 0
    assert memory["ram"]["used"] + memory["ram"]["free"] == memory["ram"]["total"]
    for name in NEVER:
        answer = await edge.http.get(f"{API}/{name}")
        assert isinstance(answer.json(), list), name
    for name, body in (
        ("refresh-checkpoints", b"null"),
        ("refresh-vae", b"null"),
        ("unload-checkpoint", b"{}"),
        ("reload-checkpoint", b"{}"),
    ):
        assert (await edge.http.post(f"{API}/{name}")).content == body


@pytest.mark.parametrize(
    ("model", "samplers", "schedulers"),
    [
        ("first", ["Euler a"], ["karras"]),
        ("second", ["Heun"], ["simple"]),
        ("gone", ["Euler a", "Heun"], ["karras", "simple"]),
    ],
)
async def test_what_the_chosen_checkpoint_takes_is_listed(
    edge: Edge, model: str, samplers: list[str], schedulers: list[str]
) -> None:
    """What another takes is refused. One that is gone takes nothing: then all there is."""
    edge.vectors.images.options.model = model
    for name, expected in (("samplers", samplers), ("schedulers", schedulers)):
        answer = await edge.http.get(f"{API}/{name}")
        assert [item["name"] for item in answer.json()] == expected


@pytest.mark.parametrize(
    "name",
    [
        "interrogate",
        "extra-single-image",
        "extra-batch-images",
        "create/embedding",
        "create/hypernetwork",
        "train/embedding",
        "train/hypernetwork",
    ],
)
async def test_what_is_not_done(edge: Edge, name: str) -> None:
    answer = await edge.http.post(f"{API}/{name}", json={})
    assert answer.status_code == 501
    assert envelope(answer)["code"] == "invalid_request"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (basic("anyone", TOKEN), 200),
        (basic("", TOKEN), 200),
        (basic("a:b", TOKEN), 401),
        (basic(TOKEN, ""), 401),
        (basic("anyone", "sk-wrong"), 401),
        (basic("anyone", "gehé\n"), 401),
        ("Basic !", 401),
        ("Basic", 401),
        ("Bearer sk-wrong", 401),
        (None, 401),
    ],
)
async def test_credentials(edge: Edge, authorization: str | None, status: int) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx.AsyncClient(base_url=f"http://{edge.host}:{edge.port}") as http:
        for method, path in (
            ("GET", f"{API}/samplers"),
            ("GET", "/api/sd-models"),
            ("POST", "/generate-image"),
            ("POST", "/internal/progress"),
        ):
            body = {"json": {"prompt": "x", "id_task": "a"}} if method == "POST" else {}
            answer = await http.request(method, path, headers=headers, **body)
            assert answer.status_code == status
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert envelope(answer)["code"] == "unauthorized"
            elif method == "POST":
                assert edge.vectors.images.metadata[-1]["authorization"] == f"Bearer {TOKEN}"


async def test_a_password_is_for_these_routes_only(edge: Edge) -> None:
    headers = {"authorization": basic("anyone", TOKEN)}
    answer = await edge.http.get("/v1/models", headers=headers)
    assert answer.status_code == 401


async def test_routing_errors_are_in_the_envelope(edge: Edge) -> None:
    for method, path, status in (
        ("GET", TXT, 405),
        ("POST", f"{API}/progress", 405),
        ("GET", f"{API}/nothing", 404),
        ("GET", "/sdapi/v2/x", 404),
        ("GET", "/sdapi", 404),
        ("GET", "/generate-image", 405),
    ):
        answer = await edge.http.request(method, path)
        assert answer.status_code == status
        assert envelope(answer)["code"] == ("not_found" if status == 404 else "invalid_request")
        assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    ("prompt", "status", "code", "field"),
    [
        ("fails-INVALID_ARGUMENT-batch_count", 400, "invalid_request", "n_iter"),
        ("fails-UNSUPPORTED_PARAMETER-hires.upscaler", 400, "invalid_request", "hr_upscaler"),
        (
            "fails-INVALID_ARGUMENT-sampler_tuning.s_churn",
            400,
            "invalid_request",
            "s_churn",
        ),
        (
            "fails-MODEL_NOT_FOUND-model",
            404,
            "model_not_found",
            "override_settings.sd_model_checkpoint",
        ),
        ("fails-PERMISSION_DENIED", 403, "forbidden", None),
        ("fails-QUEUE_FULL", 503, "queue_full", None),
        ("fails-INTERNAL", 500, "internal_error", None),
        ("cut", 503, "internal_error", None),
    ],
)
async def test_failures(edge: Edge, prompt: str, status: int, code: str, field: str | None) -> None:
    answer = await edge.http.post(TXT, json={"prompt": prompt})
    assert answer.status_code == status
    error = envelope(answer)
    assert error["code"] == code
    assert error["details"] == (f"The field at fault is '{field}'." if field else "")
    if status == 503:
        assert 1 <= int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("edge_changes", [{"max_body_bytes": 1000}])
async def test_a_bodys_limit(edge: Edge) -> None:
    answer = await edge.http.post(TXT, json={"prompt": "x" * 1000})
    assert answer.status_code == 413
    assert envelope(answer)["code"] == "invalid_request"


async def test_the_openapi_document_has_them(edge: Edge) -> None:
    document = (await edge.http.get("/openapi.json")).json()
    operation = document["paths"][TXT]["post"]
    assert operation["security"] == [{"bearer": []}, {"basic": []}]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Txt2ImgRequest"}
    samplers = document["paths"][f"{API}/samplers"]["get"]["responses"]["200"]["content"]
    items = samplers["application/json"]["schema"]["items"]
    assert items == {"$ref": "#/components/schemas/SamplerItem"}
    for path in (
        *("/generate-image", "/api/sd-models", "/internal/progress"),
        *(f"{API}/options", f"{API}/progress"),
    ):
        assert path in document["paths"]


@pytest.mark.parametrize("edge_changes", [{"api": {"max_requests_per_minute": 1}}])
async def test_limits_are_told_as_velesio_tells_them(edge: Edge) -> None:
    answer = await edge.http.get(f"{API}/samplers")
    assert answer.headers["x-ratelimit-limit"] == "1"
    assert int(answer.headers["x-ratelimit-reset"]) > 1_700_000_000
    answer = await edge.http.get(f"{API}/samplers")
    assert answer.status_code == 429
    assert envelope(answer)["code"] == "rate_limit_exceeded"
