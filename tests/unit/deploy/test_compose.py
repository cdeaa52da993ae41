"""The compose files: valid, and of one mind with the settings and the images."""

import importlib.util
import json
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.schema_loader.main import BuiltinSchemaLoader
from jsonschema import Draft7Validator

from policy.token_file import read_entries
from services.cli.roster import ROSTER
from services.settings import Settings
from tests.unit.deploy.dockerfile import stages
from tests.unit.deploy.settings_of import read

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
HERE = DEPLOY / "compose"
FILES = ("compose.yaml", "compose.gpu.yaml", "compose.triton.yaml")
IMAGES = stages(DEPLOY / "docker" / "Dockerfile")


def loaded(name: str) -> dict[str, Any]:
    return yaml.safe_load((HERE / name).read_text())


def merged(*names: str) -> dict[str, Any]:
    """As compose lays files over one another, for what is looked at here."""
    whole: dict[str, Any] = {}
    for name in names:
        _lay(loaded(name), whole)
    return whole


def _lay(more: dict[str, Any], whole: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(whole.get(key), dict):
            _lay(value, whole[key])
        else:
            whole[key] = json.loads(json.dumps(value))  # else an anchor's places stay one object


@pytest.mark.parametrize("name", FILES)
def test_they_are_compose_files(name: str) -> None:
    schema = BuiltinSchemaLoader("vendor.compose-spec").get_schema()
    Draft7Validator(schema).validate(loaded(name))


@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["base", "everything"])
def test_processes_read_their_settings(files: tuple[str, ...], tmp_path: Path) -> None:
    services = merged(*files)["services"]
    toml = (HERE / "penstock.toml").read_text()
    for entry in ROSTER:
        own = services[entry.name]
        settings, edge = read(own["environment"], toml, tmp_path)
        assert settings.auth.service_token == "s3rvice"
        keeps = entry.name in ("model", "inference", "training", "retrieval")
        assert bool(settings.database.url) == keeps == ("database-url" in own["secrets"])
        assert settings.training.folder == Path("/var/lib/penstock/shared/training")
        for other, address in edge.addresses.items():
            target = settings.services.of(other).target
            assert target == address == f"{other}:{address.rpartition(':')[2]}"
            default = getattr(Settings().services, other).address
            assert address.rpartition(":")[2] == default.rpartition(":")[2]
            assert settings.services.of(other).address == f"0.0.0.0:{address.rpartition(':')[2]}"
        grace = max(edge.drain_s, *(settings.services.of(n).grace_s for n in edge.addresses))
        assert int(own["stop_grace_period"].removesuffix("s")) > grace
        engine = settings.services.inference.engine
        assert engine == ("triton" if len(files) > 1 and entry.name == "inference" else "torch")
        for model in settings.api.models.values():
            built = " ".join(IMAGES["model-serving-packages"].all("COPY"))
            built += " ".join(IMAGES["model-serving-packages"].all("RUN"))
            assert str(model.path) in built


def test_what_is_mounted_is_there(tmp_path: Path) -> None:
    whole = merged(*FILES)
    for config in whole["configs"].values():
        assert (HERE / config["file"]).is_file()
    for rules in loaded("prometheus.yml")["rule_files"]:
        assert (DEPLOY / "observability" / Path(rules).name).is_file()
    made = make_secrets(tmp_path / "secrets")
    for name, secret in whole["secrets"].items():
        assert (made / Path(secret["file"]).name).is_file(), name
    for service, own in whole["services"].items():
        assert set(own.get("secrets", ())) <= set(whole["secrets"]), service
        assert {one["source"] for one in own.get("configs", ())} <= set(whole["configs"]), service
        for volume in own.get("volumes", ()):
            source = volume.rpartition(":/")[0]
            named = source.removesuffix("}").rpartition(":-")[2] if "$" in source else source
            assert named in whole["volumes"] or (HERE / named).is_dir(), volume


def test_who_waits_for_health_waits_for_something_that_tells_it() -> None:
    whole = merged(*FILES)["services"]
    for service, own in whole.items():
        waits = own.get("depends_on", {})
        for other, how in waits.items() if isinstance(waits, dict) else ():
            if how["condition"] == "service_healthy":
                image = IMAGES.get(whole[other].get("build", {}).get("target", ""))
                told = "healthcheck" in whole[other] or (image and image.all("HEALTHCHECK"))
                assert told, f"{service} waits for {other}"


def test_builds_are_targets_that_there_are() -> None:
    for service, own in merged(*FILES)["services"].items():
        if "build" in own:
            assert own["build"]["target"] == service
            assert service in IMAGES
            assert (HERE / own["build"]["context"] / own["build"]["dockerfile"]).is_file()
            known = {text.partition("=")[0] for one in IMAGES.values() for text in one.all("ARG")}
            assert set(own["build"].get("args", ())) <= known


def test_processes_have_the_right_to_nothing_and_an_end() -> None:
    for service, own in merged(*FILES)["services"].items():
        assert own["deploy"]["resources"]["limits"]["memory"], service
        if service != "postgres":
            assert own["read_only"] is True, service
            assert own["cap_drop"] == ["ALL"], service
            assert own["security_opt"] == ["no-new-privileges:true"], service
        for port in own.get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${PENSTOCK_BIND:-127.0.0.1}:")), service


def test_envoy_and_prometheus_know_every_process() -> None:
    envoy = yaml.safe_load((HERE / "envoy.yaml").read_text())
    hosts = {
        (at["address"], at["port_value"])
        for cluster in envoy["static_resources"]["clusters"]
        for group in cluster["load_assignment"]["endpoints"]
        for endpoint in group["lb_endpoints"]
        for at in [endpoint["endpoint"]["address"]["socket_address"]]
    }
    listens = ports()
    assert set(listens.items()) <= hosts
    groups = loaded("prometheus.yml")["scrape_configs"][0]["static_configs"]
    scraped = {one["labels"]["service"]: one["targets"] for one in groups}
    assert scraped == {name: [f"{name}:{port + 1000}"] for name, port in listens.items()}
    published = merged(*FILES)["services"]["envoy"]["ports"][0]
    front = envoy["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert published.endswith(f":{front['port_value']}")


def ports() -> dict[str, int]:
    settings = Settings()
    addresses = {
        entry.name: (
            settings.api if entry.name == "gateway" else settings.services.of(entry.name)
        ).address
        for entry in ROSTER
    }
    return {name: int(address.rpartition(":")[2]) for name, address in addresses.items()}


def make_secrets(folder: Path) -> Path:
    command = [sys.executable, str(HERE / "make_secrets.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_secrets_belong_together_and_are_made_once(tmp_path: Path) -> None:
    module = secrets_module()
    made: Mapping[str, str] = module.contents("pnstk_key")
    assert made["postgres-password"] in made["database-url"]
    assert made["redis-url"].partition("@")[0].rpartition(":")[2] in made["redis.conf"]
    (tmp_path / "tokens.json").write_text(made["tokens.json"])
    (entry,) = read_entries(tmp_path / "tokens.json")
    assert [role.value for role in entry.roles] == ["admin"]
    assert entry.sha256 == json.loads(made["tokens.json"])["tokens"][0]["sha256"]
    assert module.contents("pnstk_key")["service-token"] != made["service-token"]
    (tmp_path / "secrets").mkdir(mode=0o755)
    folder = make_secrets(tmp_path / "secrets")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        make_secrets(folder)
    assert b"already: nothing was written" in refused.value.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def secrets_module() -> Any:
    spec = importlib.util.spec_from_file_location("make_secrets", HERE / "make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
