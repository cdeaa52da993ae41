"""The small rules: IDs, page tokens, sources, states."""

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.model import names, paging
from services.model.records import (
    Capabilities,
    Entry,
    LoadOptions,
    ModelConfig,
    ModelKind,
    ModelState,
    Observation,
    ObservedState,
    Revision,
    ServiceState,
)
from services.model.sources import SourcePolicy
from services.model.states import alive, outcome, service_state, view

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INTERVAL = timedelta(seconds=5)


@pytest.mark.parametrize(
    "model_id", ["a", "penstock-starter", "org/name", "ft:base:org:x:1", "a@b+c_d.e", "x" * 256]
)
def test_ids_that_name_models(model_id):
    assert names.check_model_id(model_id, "model_id") == model_id


@pytest.mark.parametrize(
    "model_id",
    [
        "",
        "deploy",
        "-a",
        "a b",
        "a\n",
        "ä",
        "x" * 257,
        "a//b",
        "a/",
        "a/../b",
        "a/.",
        "a\0b",
        "a/config",
        "a/revisions",
        "a/revisions/1",
        "a:setAliases",
    ],
)
def test_ids_that_do_not(model_id):
    with pytest.raises(InvalidArgument) as caught:
        names.check_model_id(model_id, "model_id")
    assert caught.value.field == "model_id"


def test_names_and_back():
    assert names.parse_model_name(names.model_name("org/a"), "name") == "org/a"
    assert names.parse_config_name(names.config_name("org/a"), "name") == "org/a"
    assert names.parse_config_name("models/org/a", "name") == "org/a"
    assert names.parse_revision_name(names.revision_name("org/a", 7), "r") == ("org/a", 7)


@pytest.mark.parametrize("name", ["", "models", "models/", "model/a", "a", "models/a\0"])
def test_bad_model_names(name):
    with pytest.raises(InvalidArgument):
        names.parse_model_name(name, "name")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "models/a",
        "models/a/revisions/",
        "models/a/revisions/x",
        "revisions/1",
        "models/a/revisions/-1",
        "models/a/revisions/²",
        "models/a/revisions/" + "9" * 30,
    ],
)
def test_bad_revision_names(name):
    with pytest.raises(InvalidArgument):
        names.parse_revision_name(name, "revision")


def test_page_sizes():
    assert paging.page_size(0) == 100
    assert paging.page_size(7) == 7
    assert paging.page_size(10**6) == 1000
    with pytest.raises(InvalidArgument):
        paging.page_size(-1)


def real(path) -> str:
    return os.path.realpath(path)


async def test_any_absolute_folder_without_roots(tmp_path):
    assert await SourcePolicy().check(str(tmp_path)) == real(tmp_path)


async def test_sources_that_are_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for source in (str(tmp_path / "none"), str(tmp_path / "file"), "org/name", "https://x/y", "\0"):
        with pytest.raises(InvalidArgument) as caught:
            await SourcePolicy().check(source)
        assert caught.value.field == "source"


async def test_tritons_repository_is_a_source_whatever_the_roots(tmp_path):
    for policy in (SourcePolicy(), SourcePolicy([tmp_path])):
        assert await policy.check("triton") == "triton"


async def test_roots_hold_sources_in(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    (root / "a").mkdir(parents=True)
    other.mkdir()
    (root / "way-out").symlink_to(other)
    policy = SourcePolicy([root])
    assert await policy.check(str(root / "a")) == real(root / "a")
    assert await policy.check("a") == real(root / "a")
    messages = set()
    for source in (str(other), "../other", str(root / "way-out"), "way-out", str(root / "none")):
        with pytest.raises(InvalidArgument) as caught:
            await policy.check(source)
        messages.add(caught.value.message)
    assert len(messages) == 1, "what lies outside must look like what is missing"


FT = "ft:org/base:local:a b:AbCd1234"


@pytest.fixture
def training(tmp_path):
    """A folder of training jobs with a result, a checkpoint, and links that lead elsewhere."""
    folder = tmp_path / "training"
    result = folder / "jobs" / "ftjob-1" / "result"
    for made in (result, folder / "jobs" / "ftjob-1" / "checkpoints" / "step-5", folder / "models"):
        made.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (folder / "a-file").write_text("")
    for model_id, target in {
        FT: result,
        f"{FT}:ckpt-step-5": result.parent / "checkpoints" / "step-5",
        "ft:outside": tmp_path / "elsewhere",
        "ft:gone": result / "none",
        "ft:file": folder / "a-file",
    }.items():
        (folder / "models" / quote(model_id, safe="")).symlink_to(target)
    return folder


@pytest.mark.parametrize("roots", [(), ("root",)])
async def test_results_of_training_are_sources_whatever_the_roots(tmp_path, training, roots):
    (tmp_path / "through-a-link").symlink_to(training)
    for folder in (training, tmp_path / "through-a-link"):
        policy = SourcePolicy([tmp_path / root for root in roots], training=folder)
        result = training / "jobs" / "ftjob-1"
        assert await policy.check(FT) == real(result / "result")
        assert await policy.check(f"{FT}:ckpt-step-5") == real(result / "checkpoints" / "step-5")


async def test_what_is_no_result_of_training_is_refused_in_the_same_words(tmp_path, training):
    policy, without = SourcePolicy(training=training), SourcePolicy()
    nowhere = SourcePolicy(training=tmp_path / "none")
    messages = set()
    for asked, source in [
        *((policy, f"ft:{name}") for name in ("outside", "gone", "file", "none", "x" * 4000, "")),
        *((policy, f"ft:{name}") for name in ("/../../jobs/ftjob-1/result", "..")),
        (without, FT),
        (nowhere, FT),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            await asked.check(source)
        assert caught.value.field == "source"
        messages.add(caught.value.message)
    assert len(messages) == 1


@given(st.text(max_size=60))
def test_no_id_leads_out_of_the_folder_of_training(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp() / "only-links"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    policy = SourcePolicy(training=folder)
    with pytest.raises(InvalidArgument):
        asyncio.run(policy.check(f"ft:{text}"))


def entry(wanted: int = 1, replicas: int = 0, **changes) -> Entry:
    plain = Entry(
        id="m",
        uid="u",
        kind=ModelKind.CHAT,
        display_name="m",
        owned_by="penstock",
        base_model="",
        aliases=(),
        revision=Revision("m", wanted, "/w", NOW, LoadOptions(replicas=replicas)),
        config=ModelConfig(),
        config_version=1,
        seed="",
        stopped=False,
        first_revision=1,
        create_time=NOW,
        update_time=NOW,
    )
    return replace(plain, **changes)


def seen(state: ObservedState, revision: int = 1, reporter: str = "r", **values) -> Observation:
    return Observation(reporter, "m", revision, state, **({"report_time": NOW} | values))


LOADING, READY, FAILED = ObservedState.LOADING, ObservedState.READY, ObservedState.FAILED
DRAINING, UNLOADED = ObservedState.DRAINING, ObservedState.UNLOADED


@pytest.mark.parametrize(
    ("wanted", "observations", "state", "words"),
    [
        (1, [], ModelState.DEPLOYING, "waits"),
        (1, [seen(LOADING, progress=0.4)], ModelState.DEPLOYING, "40%"),
        (1, [seen(READY)], ModelState.READY, ""),
        (1, [seen(FAILED, message="no weights.")], ModelState.FAILED, "no weights."),
        (1, [seen(FAILED)], ModelState.FAILED, "no reason"),
        (1, [seen(FAILED), seen(LOADING, reporter="s")], ModelState.DEPLOYING, "loads"),
        (1, [seen(FAILED), seen(READY, reporter="s")], ModelState.READY, ""),
        (1, [seen(DRAINING)], ModelState.DEPLOYING, "waits"),
        (1, [seen(UNLOADED)], ModelState.DEPLOYING, "waits"),
        (2, [seen(READY, 1)], ModelState.READY, "Revision 2 waits"),
        (2, [seen(READY, 1), seen(LOADING, 2)], ModelState.READY, "Revision 1 serves"),
        (2, [seen(READY, 1), seen(FAILED, 2, message="x")], ModelState.READY, "failed to load: x."),
        (2, [seen(READY, 1), seen(READY, 2)], ModelState.READY, ""),
        (2, [seen(FAILED, 1)], ModelState.DEPLOYING, "Revision 2 waits"),
        (1, [seen(READY, report_time=NOW - 4 * INTERVAL)], ModelState.DEPLOYING, "waits"),
        (1, [seen(FAILED, report_time=NOW - 4 * INTERVAL)], ModelState.DEPLOYING, "waits"),
        (1, [seen(READY, report_time=NOW - 3 * INTERVAL)], ModelState.READY, ""),
    ],
)
def test_states(wanted, observations, state, words):
    model = view(entry(wanted, observations=tuple(observations)), NOW, INTERVAL)
    assert model.state is state
    assert words in model.state_message
    assert bool(words) == bool(model.state_message)


def test_stopped_whatever_is_reported():
    model = view(entry(stopped=True, observations=(seen(READY),)), NOW, INTERVAL)
    assert model.state is ModelState.STOPPED
    assert model.serving == (1,)


def test_too_few_replicas_are_told():
    model = view(entry(replicas=2, observations=(seen(READY),)), NOW, INTERVAL)
    assert (model.state, model.state_message[:7]) == (ModelState.READY, "1 of 2 ")


def test_capabilities_are_those_of_what_serves():
    old = seen(READY, 1, capabilities=Capabilities(tools=True), parameter_count=1)
    new = seen(READY, 2, "s", capabilities=Capabilities(lora=True), template_name="chatml")
    loading = seen(LOADING, 2)
    model = view(entry(2, observations=(old, loading)), NOW, INTERVAL)
    assert model.capabilities == Capabilities(tools=True)
    model = view(entry(2, observations=(old, new)), NOW, INTERVAL)
    assert (model.capabilities, model.template_name) == (Capabilities(lora=True), "chatml")
    assert model.serving == (2, 1)
    assert view(entry(2), NOW, INTERVAL).capabilities is None


def test_outcome_of_a_revision_beside_one_that_serves():
    model = view(entry(2, observations=(seen(READY, 1), seen(FAILED, 2))), NOW, INTERVAL)
    assert model.state is ModelState.READY
    assert outcome(model, 2) is ModelState.FAILED
    assert outcome(model, 1) is ModelState.READY


def test_service_states():
    assert service_state([seen(READY), seen(LOADING, 2)], True) is ServiceState.READY
    assert service_state([seen(LOADING)], True) is ServiceState.LOADING
    assert service_state([seen(FAILED)], True) is ServiceState.UNAVAILABLE
    assert service_state([], True) is ServiceState.UNAVAILABLE
    assert service_state([seen(READY)], False) is ServiceState.UNAVAILABLE


def test_silence():
    assert alive(NOW, NOW + 3 * INTERVAL, INTERVAL)
    assert not alive(NOW, NOW + 3 * INTERVAL + timedelta(microseconds=1), INTERVAL)
