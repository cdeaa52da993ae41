"""ModelService over real sockets, on SQLite and Postgres."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from services.model.reports import Reports

CHAT, EMBEDDING = pb.MODEL_KIND_CHAT, pb.MODEL_KIND_EMBEDDING
Seen = pb.Observation


def deployment(weights: str, model_id: str = "m", **values) -> service_pb.DeployModelRequest:
    return service_pb.DeployModelRequest(
        **({"model_id": model_id, "source": weights, "kind": CHAT} | values)
    )


def report(*observations, reporter: str = "r1", address: str = "h:1", **by_revision):
    return service_pb.ReportModelStateRequest(
        reporter=reporter, service="inference", address=address, observations=observations
    )


def seen(state, revision: str = "models/m/revisions/1", reporter: str = "r1", **values):
    return Seen(reporter=reporter, revision=revision, state=state, **values)


async def refused(call, code: grpc.StatusCode, reason: str, field: str | None = None):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    status = rpc_status.from_call(caught.value)
    info, found, violations = error_details_pb2.ErrorInfo(), 0, error_details_pb2.BadRequest()
    for detail in status.details:
        found += detail.Unpack(info)
        detail.Unpack(violations)
    assert (found, info.reason, info.domain) == (1, reason, "penstock")
    if field is not None:
        assert info.metadata["param"] == field
        assert [v.field for v in violations.field_violations] == [field]
    return caught.value


async def listed(stub) -> None:
    """Waits until there is a model."""
    while not (await stub.ListModels(service_pb.ListModelsRequest())).models:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


INVALID, TAKEN = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS
ABSENT, ABORTED = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED


async def test_deploy_serve_delete(service, weights):
    manager, user, process = map(service.stub, ("model_manager", "user", "service"))
    config = pb.ModelConfig(default_temperature=0.7, system_prompt="Be kind.", stop=["END"])
    options = pb.LoadOptions(context_length=512, quantization="bfloat16")
    model = await manager.DeployModel(
        deployment(weights, "org/m", aliases=["x"], config=config, load_options=options)
    )
    assert model.name == "models/org/m"
    assert model.uid
    assert (model.display_name, model.owned_by, model.kind) == ("org/m", "penstock", CHAT)
    assert (model.state, model.deployed_by_api) == (pb.Model.STATE_DEPLOYING, True)
    assert (model.revision.name, model.revision.source) == ("models/org/m/revisions/1", weights)
    assert model.revision.load_options == options
    assert model.config.name == "models/org/m/config"
    assert model.config.default_temperature == pytest.approx(0.7)
    assert (model.config.system_prompt, list(model.config.stop)) == ("Be kind.", ["END"])
    assert not model.config.HasField("default_top_p")
    assert not model.HasField("capabilities")
    assert await manager.GetModel(service_pb.GetModelRequest(name="models/x")) == model

    able = pb.Capabilities(
        tools=True, context_length=512, sampling_fields=["seed", "top_k"], max_top_logprobs=20
    )
    answer = await process.ReportModelState(
        report(
            seen(
                Seen.STATE_READY,
                "models/org/m/revisions/1",
                capabilities=able,
                parameter_count=10,
                template_name="chatml",
                progress=1,
            ),
            seen(Seen.STATE_READY, "models/never-heard-of/revisions/1"),
            seen(Seen.STATE_READY, "models/org/m/revisions/2"),
        )
    )
    assert answer.next_report.ToTimedelta() == timedelta(seconds=5)
    model = await manager.GetModel(service_pb.GetModelRequest(name="models/org/m"))
    assert (model.state, model.state_message) == (pb.Model.STATE_READY, "")
    assert list(model.serving_revisions) == ["models/org/m/revisions/1"]
    assert model.capabilities == able
    assert (model.parameter_count, model.template_name) == (10, "chatml")
    [observation] = model.observations
    assert (observation.reporter, observation.address) == ("r1", "h:1")
    assert observation.HasField("report_time")

    await manager.DeleteModel(service_pb.DeleteModelRequest(name="models/org/m"))
    for name in ("models/org/m", "models/x"):
        call = user.GetModel(service_pb.GetModelRequest(name=name))
        await refused(call, ABSENT, "MODEL_NOT_FOUND")


async def test_users_see_no_settings_folders_or_addresses(service, weights):
    config = pb.ModelConfig(system_prompt="secret")
    await service.stub("admin").DeployModel(deployment(weights, config=config))
    await service.stub("service").ReportModelState(report(seen(Seen.STATE_READY)))
    user = service.stub("user")
    [model] = (await user.ListModels(service_pb.ListModelsRequest())).models
    assert model.state == pb.Model.STATE_READY
    assert not model.HasField("config")
    assert not model.observations
    assert (model.revision.name, model.revision.source) == ("models/m/revisions/1", "")
    revisions = await user.ListRevisions(service_pb.ListRevisionsRequest(parent="models/m"))
    assert revisions.revisions[0].source == ""


@pytest.mark.parametrize("token", ["user", "trainer", "service"])
async def test_managing_needs_its_role(service, weights, token):
    stub, code = service.stub(token), grpc.StatusCode.PERMISSION_DENIED
    name = "models/m"
    calls = [
        stub.DeployModel(deployment(weights)),
        stub.DeleteModel(service_pb.DeleteModelRequest(name=name)),
        stub.GetModelConfig(service_pb.GetModelConfigRequest(name=name)),
        stub.UpdateModelConfig(
            service_pb.UpdateModelConfigRequest(config=pb.ModelConfig(name=name))
        ),
        stub.SetModelAliases(service_pb.SetModelAliasesRequest(name=name)),
    ]
    if token != "service":
        calls.append(stub.ReportModelState(report()))
    for call in calls:
        await refused(call, code, "PERMISSION_DENIED")


async def test_settings_are_changed_by_admins_only_and_reports_by_services(service, weights):
    manager, denied = service.stub("model_manager"), grpc.StatusCode.PERMISSION_DENIED
    request = service_pb.UpdateModelConfigRequest(config=pb.ModelConfig(name="models/m"))
    await refused(manager.UpdateModelConfig(request), denied, "PERMISSION_DENIED")
    report_call = service.stub("admin").ReportModelState(report())
    await refused(report_call, denied, "PERMISSION_DENIED")
    stranger = service.stub("")
    call = stranger.ListModels(service_pb.ListModelsRequest())
    await refused(call, grpc.StatusCode.UNAUTHENTICATED, "MISSING_CREDENTIALS")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"model_id": "deploy"}, "model_id"),
        ({"model_id": "a b"}, "model_id"),
        ({"model_id": "a/config"}, "model_id"),
        ({"source": "/none/of/this"}, "source"),
        ({"source": "org/hub-model"}, "source"),
        ({"kind": 0}, "kind"),
        ({"kind": 99}, "kind"),
        ({"aliases": ["x", "x"]}, "aliases[1]"),
        ({"aliases": ["m"]}, "aliases[0]"),
        ({"aliases": ["deploy"]}, "aliases[0]"),
        ({"display_name": "a\0"}, "display_name"),
        ({"display_name": "a" * 257}, "display_name"),
        ({"load_options": pb.LoadOptions(quantization="int3")}, "load_options.quantization"),
        ({"load_options": pb.LoadOptions(replicas=5000)}, "load_options.replicas"),
        ({"config": pb.ModelConfig(default_temperature=3)}, "config.default_temperature"),
        (
            {"config": pb.ModelConfig(default_max_tokens=9, max_tokens_limit=8)},
            "config.default_max_tokens",
        ),
    ],
)
async def test_deployments_that_are_wrong(service, weights, values, field):
    call = service.stub("admin").DeployModel(deployment(weights, **values))
    reason = "MISSING_FIELD" if values.get("kind") == 0 else "INVALID_ARGUMENT"
    await refused(call, INVALID, reason, field)
    page = await service.stub("user").ListModels(service_pb.ListModelsRequest())
    assert not page.models


async def test_sources_below_the_roots_only(start_service, database_url, tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    async with start_service(database_url, roots=(tmp_path / "root",)) as service:
        stub = service.stub("model_manager")
        model = await stub.DeployModel(deployment("a"))
        assert model.revision.source == str((tmp_path / "root" / "a").resolve())
        call = stub.DeployModel(deployment(str(tmp_path), "n"))
        await refused(call, INVALID, "INVALID_ARGUMENT", "source")


async def test_revisions(service, weights):
    stub, process = service.stub("model_manager"), service.stub("service")
    await stub.DeployModel(deployment(weights))
    await refused(stub.DeployModel(deployment(weights)), TAKEN, "ALREADY_EXISTS", "model_id")
    await process.ReportModelState(report(seen(Seen.STATE_READY)))
    model = await stub.DeployModel(deployment(weights, allow_update=True, display_name="New"))
    assert (model.revision.name, model.display_name) == ("models/m/revisions/2", "New")
    assert (model.state, "Revision 1 serves" in model.state_message) == (pb.Model.STATE_READY, True)
    first = seen(Seen.STATE_READY)
    failed = seen(Seen.STATE_FAILED, "models/m/revisions/2", message="bad header")
    await process.ReportModelState(report(first, failed))
    model = await stub.GetModel(service_pb.GetModelRequest(name="models/m"))
    assert model.state == pb.Model.STATE_READY
    assert model.state_message == "Revision 2 failed to load: bad header. Revision 1 serves."
    call = stub.DeployModel(deployment(weights, allow_update=True, kind=EMBEDDING))
    await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION")
    for _ in range(3):
        await stub.DeployModel(deployment(weights, allow_update=True))
    numbers, token = [], ""
    while True:
        page = await stub.ListRevisions(
            service_pb.ListRevisionsRequest(parent="models/m", page_size=2, page_token=token)
        )
        numbers += [revision.name.rpartition("/")[2] for revision in page.revisions]
        if not (token := page.next_page_token):
            break
    assert numbers == ["5", "4", "3", "2", "1"]


async def test_revision_numbers_are_never_used_again(service, weights):
    stub, process = service.stub("model_manager"), service.stub("service")
    before = await stub.DeployModel(deployment(weights))
    await process.ReportModelState(report(seen(Seen.STATE_READY)))
    await stub.DeleteModel(service_pb.DeleteModelRequest(name="models/m"))
    after = await stub.DeployModel(deployment(weights))
    assert after.revision.name == "models/m/revisions/2"
    assert after.uid != before.uid
    # What the process still has of the deleted model must not make this one look ready.
    await process.ReportModelState(report(seen(Seen.STATE_READY)))
    model = await stub.GetModel(service_pb.GetModelRequest(name="models/m"))
    assert (model.state, len(model.observations)) == (pb.Model.STATE_DEPLOYING, 0)


async def test_pages_stay_stable_under_inserts_and_deletes(service, weights):
    stub = service.stub("model_manager")
    for model_id in ("b", "d", "f", "h", "B", "a/b"):
        await stub.DeployModel(deployment(weights, model_id))
    first = await stub.ListModels(service_pb.ListModelsRequest(page_size=3))
    assert [model.name for model in first.models] == ["models/B", "models/a/b", "models/b"]
    for model_id in ("a", "e"):
        await stub.DeployModel(deployment(weights, model_id))
    await stub.DeleteModel(service_pb.DeleteModelRequest(name="models/b"))
    second = await stub.ListModels(
        service_pb.ListModelsRequest(page_size=3, page_token=first.next_page_token)
    )
    assert [model.name for model in second.models] == ["models/d", "models/e", "models/f"]
    third = await stub.ListModels(
        service_pb.ListModelsRequest(page_size=3, page_token=second.next_page_token)
    )
    assert [model.name for model in third.models] == ["models/h"]
    assert not third.next_page_token
    for values in ({"page_token": "?"}, {"page_token": first.next_page_token, "kinds": [CHAT]}):
        call = stub.ListModels(service_pb.ListModelsRequest(**values))
        await refused(call, INVALID, "INVALID_ARGUMENT", "page_token")
    call = stub.ListModels(service_pb.ListModelsRequest(page_size=-1))
    await refused(call, INVALID, "INVALID_ARGUMENT", "page_size")


async def test_lists_by_kind(service, weights):
    stub = service.stub("model_manager")
    for model_id, kind in (("a", CHAT), ("b", EMBEDDING), ("c", CHAT)):
        await stub.DeployModel(deployment(weights, model_id, kind=kind))
    names, token = [], ""
    while True:
        page = await stub.ListModels(
            service_pb.ListModelsRequest(kinds=[CHAT], page_size=1, page_token=token)
        )
        names += [model.name for model in page.models]
        if not (token := page.next_page_token):
            break
    assert names == ["models/a", "models/c"]


async def test_settings_with_mask_and_etag(service, weights):
    admin = service.stub("admin")
    deployed = await admin.DeployModel(deployment(weights, aliases=["x"]))
    read = await admin.GetModelConfig(service_pb.GetModelConfigRequest(name="models/x"))
    assert read == deployed.config

    def update(mask=(), **values):
        values = {"name": "models/m/config"} | values
        return admin.UpdateModelConfig(
            service_pb.UpdateModelConfigRequest(
                config=pb.ModelConfig(**values), update_mask=FieldMask(paths=mask)
            )
        )

    one = await update(etag=read.etag, default_temperature=0, system_prompt="a", stop=["x"])
    assert one.etag != read.etag
    assert one.HasField("default_temperature")
    await refused(update(etag=read.etag, max_choices=2), ABORTED, "CONFLICT", "config.etag")
    two = await update(mask=["default_top_p", "default_temperature"], default_top_p=0.5)
    assert not two.HasField("default_temperature")
    assert (two.default_top_p, two.system_prompt, list(two.stop)) == (0.5, "a", ["x"])
    same = await update(etag=two.etag, system_prompt="a")
    assert same.etag == two.etag, "nothing changed"
    three = await update(mask=["stop", "system_prompt"])
    assert (three.system_prompt, list(three.stop)) == ("", [])
    four = await update(mask=["*"], max_batch_size=4)
    assert (four.max_batch_size, four.HasField("default_top_p")) == (4, False)
    for mask in (["etag"], ["name"], ["nonsense"], ["*", "stop"]):
        await refused(update(mask=mask), INVALID, "INVALID_ARGUMENT", "update_mask")
    await refused(
        update(default_temperature=2.5), INVALID, "INVALID_ARGUMENT", "config.default_temperature"
    )
    call = update(name="models/none", max_choices=1)
    await refused(call, ABSENT, "MODEL_NOT_FOUND")


async def test_updates_of_the_same_state_clash(service, weights):
    admin = service.stub("admin")
    etag = (await admin.DeployModel(deployment(weights))).config.etag
    calls = [
        admin.UpdateModelConfig(
            service_pb.UpdateModelConfigRequest(
                config=pb.ModelConfig(name="models/m", etag=etag, max_choices=number)
            )
        )
        for number in range(1, 6)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [error.code() for error in errors] == [ABORTED] * 4


async def test_deployments_of_the_same_id_clash(service, weights):
    stub = service.stub("model_manager")
    calls = [stub.DeployModel(deployment(weights)) for _ in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [error.code() for error in errors] == [TAKEN] * 4


async def test_aliases(service, weights):
    stub = service.stub("model_manager")
    await stub.DeployModel(deployment(weights, "a", aliases=["x", "y"]))
    await stub.DeployModel(deployment(weights, "b"))

    def alias(name, *aliases):
        return stub.SetModelAliases(
            service_pb.SetModelAliasesRequest(name=f"models/{name}", aliases=aliases)
        )

    assert list((await alias("a", "z", "y")).aliases) == ["z", "y"]
    await refused(alias("b", "q", "y"), TAKEN, "ALREADY_EXISTS", "aliases[1]")
    await refused(alias("b", "a"), TAKEN, "ALREADY_EXISTS", "aliases[0]")
    await refused(alias("b", "b"), INVALID, "INVALID_ARGUMENT", "aliases[0]")
    await refused(stub.DeployModel(deployment(weights, "z")), TAKEN, "ALREADY_EXISTS", "model_id")
    call = stub.DeployModel(deployment(weights, "c", aliases=["b"]))
    await refused(call, TAKEN, "ALREADY_EXISTS", "aliases[0]")
    # Changing a model through what may be another's name tomorrow is refused, with a hint.
    error = await refused(alias("z", "q"), ABSENT, "MODEL_NOT_FOUND")
    assert "alias of 'a'" in error.details()
    call = stub.DeleteModel(service_pb.DeleteModelRequest(name="models/z"))
    await refused(call, ABSENT, "MODEL_NOT_FOUND")
    assert list((await alias("a")).aliases) == []
    assert list((await alias("b", "x", "y", "z")).aliases) == ["x", "y", "z"]
    model = await stub.GetModel(service_pb.GetModelRequest(name="models/y"))
    assert model.name == "models/b"


async def test_repeated_requests(service, weights):
    stub = service.stub("model_manager")
    request = deployment(weights, request_id="one", aliases=["x"])
    first = await stub.DeployModel(request)
    assert await stub.DeployModel(request) == first
    await stub.DeployModel(deployment(weights, allow_update=True))
    again = await stub.DeployModel(request)
    assert (again.uid, again.revision) == (first.uid, first.revision)
    other = deployment(weights, request_id="one", aliases=["y"])
    await refused(stub.DeployModel(other), ABORTED, "CONFLICT", "request_id")
    # Another caller's request ID is another's.
    await refused(service.stub("m2").DeployModel(request), TAKEN, "ALREADY_EXISTS", "model_id")
    await stub.DeleteModel(service_pb.DeleteModelRequest(name="models/m"))
    await refused(stub.DeployModel(request), ABORTED, "CONFLICT", "request_id")
    page = await stub.ListModels(service_pb.ListModelsRequest())
    assert not page.models


async def test_repeated_requests_at_once(service, weights):
    stub = service.stub("model_manager")
    request = deployment(weights, request_id="one")
    models = await asyncio.gather(*(stub.DeployModel(request) for _ in range(5)))
    assert {model.revision.name for model in models} == {"models/m/revisions/1"}


async def test_waiting_for_a_deployment(service, weights):
    stub, process = service.stub("model_manager"), service.stub("service")

    async def deployed(model_id, state, **values):
        call = stub.DeployModel(deployment(weights, model_id, wait=True, **values), timeout=10)
        waiting = asyncio.ensure_future(call)
        number = 2 if values else 1
        revision = f"models/{model_id}/revisions/{number}"
        await listed(stub)
        await asyncio.sleep(0.1)
        await process.ReportModelState(report(seen(Seen.STATE_LOADING, revision)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        old = [seen(Seen.STATE_READY, f"models/{model_id}/revisions/1")] if values else []
        await process.ReportModelState(report(seen(state, revision, message="x"), *old))
        return await waiting

    assert (await deployed("a", Seen.STATE_READY)).state == pb.Model.STATE_READY
    assert (await deployed("b", Seen.STATE_FAILED)).state == pb.Model.STATE_FAILED
    # A new revision is waited for although the old one serves.
    model = await deployed("a", Seen.STATE_FAILED, allow_update=True)
    assert model.state == pb.Model.STATE_READY
    assert "Revision 2 failed" in model.state_message
    call = stub.DeployModel(deployment(weights, "c", wait=True), timeout=3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await stub.GetModel(service_pb.GetModelRequest(name="models/c"))).uid


async def test_waiting_ends_when_the_model_is_deleted(service, weights):
    stub = service.stub("model_manager")
    waiting = asyncio.ensure_future(stub.DeployModel(deployment(weights, wait=True), timeout=10))
    await listed(stub)
    await stub.DeleteModel(service_pb.DeleteModelRequest(name="models/m"))
    await refused(waiting, ABSENT, "MODEL_NOT_FOUND")


async def test_status_and_silence(service, weights, clock):
    manager, process = service.stub("model_manager"), service.stub("service")
    await manager.DeployModel(deployment(weights))
    await process.ReportModelState(report(seen(Seen.STATE_READY)))
    await process.ReportModelState(
        report(seen(Seen.STATE_LOADING, reporter="r2"), reporter="r2", address="h:2")
    )
    await process.ReportModelState(report(reporter="r3", address="h:3"))

    async def states():
        status = await service.stub("user").GetStatus(service_pb.GetStatusRequest())
        assert status.version == "1.2.3"
        assert {s.name for s in status.services} <= {"inference"}
        return {s.reporter: s.state for s in status.services}

    kinds = service_pb.GetStatusResponse.Service
    assert await states() == {
        "r1": kinds.STATE_READY,
        "r2": kinds.STATE_LOADING,
        "r3": kinds.STATE_UNAVAILABLE,
    }
    clock.ahead = timedelta(seconds=16)
    assert (await states())["r1"] == kinds.STATE_UNAVAILABLE
    model = await manager.GetModel(service_pb.GetModelRequest(name="models/m"))
    assert (model.state, len(model.observations)) == (pb.Model.STATE_DEPLOYING, 0)
    clock.ahead = timedelta(minutes=11)
    await Reports(service.catalog).sweep()
    assert await states() == {}


async def test_a_process_that_took_anothers_place(service, weights, clock):
    manager, process = service.stub("model_manager"), service.stub("service")
    await manager.DeployModel(deployment(weights))
    await process.ReportModelState(report(seen(Seen.STATE_READY)))
    new = report(seen(Seen.STATE_LOADING, reporter="r2"), reporter="r2")

    async def state():
        return (await manager.GetModel(service_pb.GetModelRequest(name="models/m"))).state

    # Behind a proxy two processes may give the same address: both are heard while both report.
    await process.ReportModelState(new)
    assert await state() == pb.Model.STATE_READY
    clock.ahead = timedelta(seconds=8)
    await process.ReportModelState(new)
    assert await state() == pb.Model.STATE_DEPLOYING


@pytest.mark.parametrize(
    ("observation", "field"),
    [
        (seen(Seen.STATE_READY, "models/m"), "observations[0].revision"),
        (seen(Seen.STATE_READY, reporter="r9"), "observations[0].reporter"),
        (seen(Seen.STATE_UNSPECIFIED), "observations[0].state"),
        (seen(Seen.STATE_READY, template_name="\0"), "observations[0].template_name"),
    ],
)
async def test_reports_that_are_wrong(service, observation, field):
    call = service.stub("service").ReportModelState(report(observation))
    await refused(call, INVALID, "INVALID_ARGUMENT", field)


async def test_reports_survive_odd_values(service, weights):
    await service.stub("admin").DeployModel(deployment(weights))
    for progress in (float("nan"), float("inf"), -1.0, 7.0):
        odd = seen(Seen.STATE_LOADING, progress=progress, message="\0" + "é" * 9000)
        await service.stub("service").ReportModelState(report(odd))
        request = service_pb.GetModelRequest(name="models/m")
        model = await service.stub("admin").GetModel(request)
        assert 0 <= model.observations[0].progress <= 1
        assert len(model.observations[0].message) == 4096


async def test_a_revision_reported_twice_counts_as_the_better_one(service, weights):
    """A process may drain what it loads anew, after the catalogue was made anew, say."""
    await service.stub("admin").DeployModel(deployment(weights))
    states = [Seen.STATE_DRAINING, Seen.STATE_LOADING, Seen.STATE_UNLOADED]
    await service.stub("service").ReportModelState(report(*map(seen, states)))
    model = await service.stub("admin").GetModel(service_pb.GetModelRequest(name="models/m"))
    assert [observation.state for observation in model.observations] == [Seen.STATE_LOADING]
