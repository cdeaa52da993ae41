"""Settings: every key, from every source, and every mistake named."""

import dataclasses
import json
import operator
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.settings import (
    DatasetSettings,
    ModelSettings,
    Settings,
    SettingsError,
    TritonModelSettings,
    from_command_line,
    load,
)
from services.settings_auth import WorkloadSettings
from services.settings_loader import Leaf, leaves
from services.settings_values import convert, parse

LEAVES = sorted(leaves(Settings), key=lambda leaf: leaf.path)
IN_FILE = [leaf for leaf in LEAVES if not leaf.field.metadata.get("env_only")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def get(whole: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        whole = getattr(whole, name)
    return whole


def values(leaf: Leaf) -> st.SearchStrategy[Any]:
    """Draws values of a key that are not its default by accident of being empty."""
    kind = leaf.type
    if type(None) in get_args(kind):
        kind = next(each for each in get_args(kind) if each is not type(None))
    word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_./:é ", min_size=1, max_size=12).filter(
        lambda text: text.strip() == text
    )
    low, high = leaf.field.metadata.get("minimum"), leaf.field.metadata.get("maximum")
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        choice = st.sampled_from(get_args(item)) if get_origin(item) is Literal else word
        return st.lists(choice, min_size=1, max_size=3)
    if get_origin(kind) is Mapping and get_args(kind)[1] is DatasetSettings:
        name = word.filter(lambda text: not text.startswith("file-"))
        path = word.map(lambda text: f"/{text.strip('/') or 'x'}")
        return st.dictionaries(name, st.fixed_dictionaries({"path": path}), min_size=1, max_size=2)
    if get_origin(kind) is Mapping and get_args(kind)[1] is WorkloadSettings:
        workload = st.fixed_dictionaries(
            {"roles": st.lists(st.sampled_from(["user", "admin"]), max_size=2)},
            optional={"tokens_per_day": st.integers(0, 99), "tenants": st.lists(word, max_size=2)},
        )
        return st.dictionaries(word, workload, min_size=1, max_size=2)
    if get_origin(kind) is Mapping and get_args(kind)[1] is TritonModelSettings:
        hosted = st.fixed_dictionaries(
            {"name": word}, optional={"needs": st.lists(word, max_size=2), "config": word}
        )
        return st.dictionaries(word, hosted, min_size=1, max_size=2)
    if get_origin(kind) is Mapping:
        model = st.fixed_dictionaries(
            {"path": st.just("/m"), "type": st.sampled_from(["chat", "image"])},
            optional={"context_length": st.integers(1, 99), "aliases": st.lists(word, max_size=2)},
        )
        return st.dictionaries(word, model, min_size=1, max_size=2)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(int(low or 0), int(high or 10**9))
    if kind is float:
        return st.floats(low or 0.0, high or 1e6)
    if kind is Path:
        return word.map(lambda text: f"/{text.strip('/') or 'x'}")
    assert kind is str
    return word


def as_text(value: Any) -> str:
    """Spells a value as a variable would."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def as_toml(value: Any) -> str:
    """Spells a value as TOML; JSON is near enough but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {as_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def expected(leaf: Leaf, value: Any) -> Any:
    if isinstance(value, dict) and leaf.path[-1] == "datasets":
        return {name: DatasetSettings(path=Path(item["path"])) for name, item in value.items()}
    if isinstance(value, dict) and leaf.path[-1] in ("mtls", "models") and leaf.path[0] != "api":
        made = WorkloadSettings if leaf.path[-1] == "mtls" else TritonModelSettings
        return {
            id_: made(**{name: tuple(v) if isinstance(v, list) else v for name, v in item.items()})
            for id_, item in value.items()
        }
    if isinstance(value, dict):
        return {
            id_: ModelSettings(
                **{
                    **model,
                    "path": Path(model["path"]),
                    "aliases": tuple(model.get("aliases", ())),
                }
            )
            for id_, model in value.items()
        }
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if "Path" in str(leaf.type) else value


def partners(leaf: Leaf) -> dict[str, object]:
    """What a key can't stand without."""
    if leaf.path == ("training", "trainer"):
        return {"training.ray_address": "http://head:8265"}
    if leaf.path[0] != "tls":
        return {}
    return {f"tls.{name}": "/x" for name in ("certificate", "key") if name != leaf.path[1]}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.dotted)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_key_can_be_set_every_way(leaf: Leaf, data: st.DataObject, tmp_path: Path) -> None:
    value = data.draw(values(leaf))
    other = data.draw(values(leaf))
    want = expected(leaf, value)
    if isinstance(value, list):
        want_env = tuple(each.strip() for each in ",".join(value).split(",") if each.strip())
    else:
        want_env = want
    by_env = load(env={leaf.variable: as_text(value)}, overrides=partners(leaf))
    assert get(by_env, leaf.path) == want_env
    by_override = load(env={}, overrides={**partners(leaf), leaf.dotted: value})
    assert get(by_override, leaf.path) == want
    if leaf not in IN_FILE:
        return
    file = tmp_path / "some.toml"
    head, name = leaf.path[:-1], leaf.path[-1]
    file.write_text(f"[{'.'.join(head)}]\n{name} = {as_toml(value)}\n", encoding="utf-8")
    assert get(load(file, {}, partners(leaf)), leaf.path) == want
    # The environment goes before the file, and overrides before both.
    both = load(file, {leaf.variable: as_text(value)}, {**partners(leaf), leaf.dotted: other})
    assert get(both, leaf.path) == expected(leaf, other)
    assert get(load(file, {"PENSTOCK_CONFIG": "/no"}, partners(leaf)), leaf.path) == want


def test_every_field_explains_itself() -> None:
    here = Path(str(load.__code__.co_filename))
    parts = ("auth", "sections", "services", "training", "triton")
    source = "".join(here.with_name(f"settings_{part}.py").read_text() for part in parts)
    for leaf in [
        *LEAVES,
        *leaves(ModelSettings),
        *leaves(DatasetSettings),
        *leaves(TritonModelSettings),
    ]:
        declaration = source.index(f"\n    {leaf.path[-1]}: ")
        following = source[declaration + 1 :]
        assert '\n    """' in following[: following.index('"""\n') + 4], leaf.dotted


def test_defaults_work_without_anything() -> None:
    made = load(env={})
    assert made.api.address == "127.0.0.1:8080"
    assert made.services.data_dir == Path(".penstock")
    assert made.auth.token_file == Path(".penstock/tokens.json")
    assert made.services.model.database_url == "sqlite+aiosqlite:///.penstock/model.db"
    ports = [made.services.of(name).address for name in ("model", "inference", "retrieval")]
    assert ports == ["127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50056"]
    assert made.services.inference.engine == "torch"
    assert made.training.folder == Path(".penstock/training")


def test_models_that_are_installed_are_served_unless_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.settings._STARTER", tmp_path)
    monkeypatch.setattr("services.settings._MINILM", "some_weights")
    monkeypatch.setattr("services.settings._IMAGE_STARTER", tmp_path / "image")
    (tmp_path / "some_weights" / "model").mkdir(parents=True)
    (tmp_path / "some_weights" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    models = load(env={}).api.models
    starter, encoder = models["penstock-starter"], models["all-minilm-l6-v2"]
    assert (starter.path, starter.type, starter.aliases) == (tmp_path, "chat", ("default",))
    assert encoder.path == tmp_path / "some_weights" / "model"
    assert (encoder.type, encoder.aliases) == ("embedding", ("default-embedding",))
    assert "penstock-starter-image" not in models, "its folder isn't there"
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "model_index.json").touch()
    painter = load(env={}).api.models["penstock-starter-image"]
    assert (painter.path, painter.type) == (tmp_path / "image", "image")
    assert painter.aliases == ("default-image",)
    assert painter.default_cfg_scale == 3, "at 7 its colours overshoot"
    named = load(env={"PENSTOCK_API_MODELS": '{"mine": {"path": "/m"}}'})
    assert list(named.api.models) == ["mine"]
    monkeypatch.setattr("services.settings._STARTER", tmp_path / "none")
    monkeypatch.setattr("services.settings._MINILM", "no_such_weights")
    monkeypatch.setattr("services.settings._IMAGE_STARTER", tmp_path / "none")
    assert load(env={}).api.models == {}


def test_model_ids_may_be_anything(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        """
        [api.models."org/name:7b.v1 ü"]
        path = "weights"
        type = "embedding"
        dimensions = 384
        [api.models.plain]
        path = "~/w"
        default_temperature = 1
        """
    )
    models = load(file, {}).api.models
    assert models["org/name:7b.v1 ü"].path == tmp_path / "weights"
    assert models["org/name:7b.v1 ü"].dimensions == 384
    assert models["plain"].path == Path.home() / "w"
    assert models["plain"].default_temperature == 1.0


def test_training_has_a_folder_and_datasets(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[training.datasets.'our hours']\npath = 'hours.jsonl'\n")
    made = load(file, {"PENSTOCK_DATA_DIR": "/d"}).training
    assert made.folder == Path("/d/training")
    assert made.datasets == {"our hours": DatasetSettings(path=tmp_path / "hours.jsonl")}
    assert load(env={"PENSTOCK_TRAINING_FOLDER": "/shared"}).training.folder == Path("/shared")


def test_paths_are_relative_to_what_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "penstock.toml"
    file.write_text('[services]\ndata_dir = "data"\n[auth]\ntoken_file = "/abs/t.json"\n')
    made = load(file, {})
    assert made.services.data_dir == folder / "data"
    assert made.auth.token_file == Path("/abs/t.json")
    assert load(file, {"PENSTOCK_DATA_DIR": "here"}).services.data_dir == Path("here")


def test_the_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text('[log]\nlevel = "debug"\n')
    (tmp_path / "other.toml").write_text('[log]\nlevel = "error"\n')
    assert load(env={}).log.level == "debug"
    assert load(env={"PENSTOCK_CONFIG": "other.toml"}).log.level == "error"
    assert load(tmp_path / "penstock.toml", {"PENSTOCK_CONFIG": "other.toml"}).log.level == "debug"
    with pytest.raises(SettingsError, match=r"none\.toml can't be read"):
        load(env={"PENSTOCK_CONFIG": "none.toml"})


def test_databases_follow_the_shared_one() -> None:
    env = {"PENSTOCK_DATABASE_URL": "a://", "PENSTOCK_SERVICES_MODEL_DATABASE_URL": "b://"}
    services = load(env=env).services
    assert (services.model.database_url, services.training.database_url) == ("b://", "a://")


def test_a_wildcard_address_is_reached_here() -> None:
    env = {
        "PENSTOCK_SERVICES_MODEL_ADDRESS": "0.0.0.0:7",
        "PENSTOCK_SERVICES_IMAGE_ADDRESS": "10.0.0.1:8",
        "PENSTOCK_SERVICES_IMAGE_TARGET": "images:8",
    }
    services = load(env=env).services
    assert (services.model.target, services.image.target) == ("127.0.0.1:7", "images:8")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[apii]\n", r"unknown section \[apii\]; did you mean 'api'\?"),
        ("x = 1\n", r"unknown section \[x\]"),
        ("[api]\nadress = ''\n", r"unknown key 'adress' in \[api\]; did you mean 'address'\?"),
        ("[services.inferense]\n", "did you mean 'inference'"),
        ("[services.inference]\nbatch = 1\n", r"unknown key 'batch' in \[services\.inference\]"),
        ("[api.models.m]\npath = '/m'\ntyp = 'chat'\n", "unknown key 'typ'; did you mean 'type'"),
        ("[api.models.m]\ntype = 'chat'\n", "'path' is missing"),
        ("[api]\nmodels = 1\n", "expected a table"),
        ("[api.models]\nm = 1\n", "expected a table"),
        ("api = 1\n", r"\[api\] is a table, not a value"),
        ("[api]\nenabled = 1\n", r"\[api\] enabled: expected true or false, got 1"),
        ("[api]\nenabled = 'true'\n", "expected true or false"),
        ("[api]\naddress = 1\n", "expected a string"),
        ("[api]\nmax_requests_per_minute = true\n", "expected an integer"),
        ("[api]\nmax_requests_per_minute = 1.5\n", "expected an integer"),
        ("[api]\nmax_requests_per_minute = -1\n", "must be at least 0"),
        ("[api]\ncors_origins = '*'\n", "expected a list, each item a string"),
        ("[api]\ncors_origins = [1]\n", "expected a string"),
        ("[log]\nlevel = 'loud'\n", "expected 'debug' or 'info' or 'warning' or 'error'"),
        ("[api.models.m]\npath = '/m'\ndefault_temperature = 3\n", "must be at most 2"),
        ("[auth]\nservice_token = 'x'\n", r"can only be set as \$PENSTOCK_SERVICE_TOKEN"),
        ("[tls]\nkey = 'k'\n", "belong together"),
        ("[tls]\nclient_ca = 'k'\n", "needs certificate and key"),
        ("[services.model]\ngrace_s = inf\n", "expected a number, got inf"),
        ("[training]\ntrainer = 'ray'\n", r"\[training\] trainer: 'ray' needs ray_address"),
        ("[training.datasets.d]\nfile = 'f'\n", "unknown key 'file'; did you mean 'path'"),
        ("[training.datasets.d]\n", "'path' is missing"),
        ("[training.datasets.file-d]\npath = 'f'\n", r"datasets\.file-d.*uploaded file"),
        ("[api\n", r"c\.toml is not TOML: .*line 1"),
    ],
)
def test_mistakes_in_the_file_are_named(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=said):
        load(file, {})


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PENSTOCK_API_ADRESS", "x", r"unknown .*\$PENSTOCK_API_ADRESS; did you .*_API_ADDRESS'"),
        ("PENSTOCK_X", "x", r"unknown environment variable \$PENSTOCK_X"),
        ("PENSTOCK_API_ENABLED", "maybe", r"\$PENSTOCK_API_ENABLED: expected true or false"),
        ("PENSTOCK_API_MAX_TOKENS_PER_MINUTE", "1e3", "expected an integer, got '1e3'"),
        ("PENSTOCK_SERVICES_MODEL_GRACE_S", "long", "expected a number"),
        ("PENSTOCK_SERVICES_MODEL_GRACE_S", "-1", "must be at least 0"),
        ("PENSTOCK_SERVICES_MODEL_GRACE_S", "nan", "expected a number"),
        ("PENSTOCK_API_MODELS", "{", "expected a table"),
        ("PENSTOCK_API_MODELS", "[]", "expected a table"),
        (
            "PENSTOCK_SERVICES_INFERENCE_ENGINE",
            "tpu",
            "'torch' or 'openvino' or 'triton' or 'echo'",
        ),
    ],
)
def test_mistakes_in_the_environment_are_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(env={variable: value})


def test_what_kubernetes_sets_is_let_be() -> None:
    env = {
        "PENSTOCK_MODEL_SERVICE_HOST": "10.0.0.1",
        "PENSTOCK_MODEL_SERVICE_PORT": "50051",
        "PENSTOCK_MODEL_SERVICE_PORT_GRPC": "50051",
        "PENSTOCK_MODEL_PORT": "tcp://10.0.0.1:50051",
        "PENSTOCK_MODEL_PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    load(env=env)
    with pytest.raises(SettingsError):
        load(env={"PENSTOCK_MODEL_PORT": "50051"})


def test_the_variable_of_clients_is_let_be() -> None:
    assert load(env={"PENSTOCK_API_KEY": "k"}).api.api_key == ""


def test_an_unknown_override_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 'services\.model\.address'"):
        load(env={}, overrides={"services.model.adress": "x"})


def test_lists_are_separated_by_commas() -> None:
    assert load(env={"API_TOKENS": " a, b,,c "}).auth.api_tokens == ("a", "b", "c")
    assert load(env={"API_TOKENS": ""}).auth.api_tokens == ()


def test_secrets_are_not_shown() -> None:
    env = {
        "API_TOKENS": "s3cret",
        "PENSTOCK_SERVICE_TOKEN": "s3cret",
        "PENSTOCK_API_API_KEY": "s3cret",
        "PENSTOCK_DATABASE_URL": "postgresql+asyncpg://u:s3cret@h/d",
    }
    assert "s3cret" not in repr(load(env=env))


def test_secrets_may_lie_in_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    secret = [leaf for leaf in leaves(Settings) if leaf.secret]
    assert {leaf.dotted for leaf in secret} >= {"auth.service_token", "database.url", "redis.url"}
    settings = load(env={f"{leaf.variable}_FILE": str(file) for leaf in secret})
    for leaf in secret:
        value = operator.attrgetter(leaf.dotted)(settings)
        assert value in ("s3cret", ("s3cret",))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"PENSTOCK_SERVICE_TOKEN": "x"}, "_SERVICE_TOKEN and .*_FILE are both set"),
        ({"PENSTOCK_SERVICE_TOKEN_FILE": "/none"}, r"\$PENSTOCK_SERVICE_TOKEN_FILE: /none can't"),
        ({"PENSTOCK_LOG_LEVEL_FILE": "x"}, "unknown environment variable"),  # that is no secret
    ],
)
def test_files_of_secrets_that_make_no_sense(
    more: dict[str, str], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret")
    with pytest.raises(SettingsError, match=said):
        load(env={"PENSTOCK_SERVICE_TOKEN_FILE": str(file)} | more)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(env={}).api.enabled = False  # type: ignore[misc]


def test_arguments_go_first(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[services.model]\naddress = "0.0.0.0:1"\n')
    arguments = ["--config", str(file), "--data-dir", "d", "--port", "0"]
    made = from_command_line("model", arguments, {"PENSTOCK_DATA_DIR": "e"})
    assert made.services.model.address == "0.0.0.0:0"
    assert made.services.data_dir == Path("d")
    assert made.auth.token_file == Path("d/tokens.json")
    assert made.services.inference.address == "127.0.0.1:50052"
    for wrong in (["--port", "x"], ["--port", "70000"], ["--what"]):
        with pytest.raises(SystemExit):
            from_command_line("model", wrong, {})


@given(st.text(max_size=20))
def test_text_of_any_kind_is_converted_or_refused(text: str) -> None:
    for leaf in LEAVES:
        if get_origin(leaf.type) is Mapping:
            continue
        for way in (parse, convert):
            with suppress(SettingsError):
                way(leaf.type, text, "here")
