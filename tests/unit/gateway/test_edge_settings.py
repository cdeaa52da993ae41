from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings import SECTIONS, Settings, load
from gateway.settings_values import SettingsError
from services.settings import Settings as ServiceSettings

FILE = """
[api]
address = "0.0.0.0:9000"
require_auth = false
max_requests_per_minute = 60
cors_origins = ["https://a.example"]
[api.models."org/m"]
path = "m"
type = "chat"
aliases = ["x"]
[auth]
token_file = "keys.json"
[services]
data_dir = "data"
[services.inference]
address = "0.0.0.0:60052"
target = "inference:60052"
engine = "echo"
[log]
level = "debug"
"""


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environ={})
    assert settings.host_port == ("127.0.0.1", 8080)
    assert settings.addresses["model"] == "127.0.0.1:50051"
    assert settings.data_dir == Path(".penstock")
    assert settings.token_file == Path(".penstock/tokens.json")
    assert settings.expected_services == {"model", "inference"}
    assert settings.max_body_bytes == 64 * 1024 * 1024


def test_every_section_of_the_services_may_be_in_the_file(tmp_path: Path) -> None:
    sections = {section.name for section in dataclasses.fields(ServiceSettings)}
    assert set(SECTIONS) == sections
    path = tmp_path / "penstock.toml"
    path.write_text("".join(f"[{section}]\n" for section in sorted(sections)))
    assert load(path, environ={}).host_port == ("127.0.0.1", 8080)


def test_file_then_environment_then_arguments(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(FILE)
    settings = load(file, environ={})
    assert settings.host_port == ("0.0.0.0", 9000)
    assert settings.api.require_auth is False
    assert settings.api.cors_origins == ("https://a.example",)
    assert settings.addresses["inference"] == "inference:60052"
    assert settings.expected_services == {"model", "inference"}
    assert settings.data_dir == tmp_path / "data"
    assert settings.token_file == tmp_path / "keys.json"
    environ = {
        "PENSTOCK_CONFIG": str(file),
        "PENSTOCK_API_ADDRESS": "[::1]:7000",
        "PENSTOCK_API_REQUIRE_AUTH": "yes",
        "PENSTOCK_API_MAX_REQUESTS_PER_MINUTE": "7",
        "PENSTOCK_API_CORS_ORIGINS": "a, b",
        "PENSTOCK_SERVICES_IMAGE_ADDRESS": "h:1",
        "PENSTOCK_DATA_DIR": "/d",
        "API_TOKENS": " a ,, b ",
        "PENSTOCK_SERVICE_TOKEN": "s",
    }
    settings = load(environ=environ)
    assert settings.host_port == ("::1", 7000)
    assert settings.api.require_auth is True
    assert settings.api.max_requests_per_minute == 7
    assert settings.api.cors_origins == ("a", "b")
    assert settings.addresses["image"] == "h:1"
    assert "image" in settings.expected_services
    assert settings.data_dir == Path("/d")
    assert settings.api_tokens == ("a", "b")
    assert settings.service_token == "s"
    assert "'s'" not in repr(settings)
    settings = load(environ=environ, port=1, data_dir=Path("/e"))
    assert settings.host_port == ("::1", 1)
    assert settings.data_dir == Path("/e")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[apii]", "did you mean `api`"),
        ("[api]\nadress = 'x'", "did you mean `address`"),
        ("[api]\naddress = 5", "api.address must be text"),
        ("[api]\naddress = 'x'", "must be host:port"),
        ("[api]\naddress = 'x:99999'", "must be host:port"),
        ("[api]\nenabled = 'perhaps'", "true or false"),
        ("[api]\nmax_requests_per_minute = true", "whole number"),
        ("[api]\nmax_requests_per_minute = -1", "negative"),
        ("[api]\ncors_origins = [5]", "list of texts"),
        ("[api.models.m]\npth = 'x'", "did you mean `path`"),
        ("[auth]\ntoken_fil = 'x'", "did you mean `token_file`"),
        ("[services.infrence]", "did you mean `inference`"),
        ("[services.model]\naddress = 'x'", "services.model.address"),
        ("[log]\nlevel = 'loud'", "debug, info, warning or error"),
        ("[log]\nformat = 'xml'", "console or json"),
        ("[tls]\ncertificate = 'c.pem'", "go together"),
        ("api = 5", "must be a table"),
        ("[", "not valid TOML"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, environ={})
    assert says in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load(tmp_path / "none.toml", environ={})


def test_unknown_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="did you mean `PENSTOCK_API_ADDRESS`"):
        load(environ={"PENSTOCK_API_ADRESS": "x"})
    load(
        environ={
            "PENSTOCK_API_KEY": "a client's",
            "PENSTOCK_API_MODELS": "{}",
            "PENSTOCK_API_SERVICE_HOST": "10.0.0.1",
            "PENSTOCK_API_SERVICE_PORT": "80",
            "PENSTOCK_API_PORT": "tcp://10.0.0.1:80",
        }
    )


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("PENSTOCK_API_MAX_REQUESTS_PER_MINUTE", "-1", "api.max_requests_per_minute"),
        ("PENSTOCK_API_MAX_TOKENS_PER_MINUTE", "-1", "api.max_tokens_per_minute"),
        ("PENSTOCK_API_REQUEST_TIMEOUT_S", "0", "api.request_timeout_s"),
        ("PENSTOCK_LIMITS_CONCURRENT_REQUESTS", "-1", "limits.concurrent_requests"),
        ("PENSTOCK_LIMITS_TOKENS_PER_DAY", "-1", "limits.tokens_per_day"),
        ("PENSTOCK_LIMITS_TOKENS_PER_MONTH", "many", "limits.tokens_per_month"),
        ("PENSTOCK_LIMITS_WHEN_UNAVAILABLE", "ajar", "limits.when_unavailable"),
        ("PENSTOCK_REDIS_TIMEOUT_S", "0", "redis.timeout_s"),
        ("PENSTOCK_REDIS_TIMEOUT_S", "nan", "redis.timeout_s"),
    ],
)
def test_limits_that_make_no_sense_are_refused(variable: str, value: str, key: str) -> None:
    with pytest.raises(SettingsError, match=key.replace(".", r"\.")):
        load(environ={variable: value})


def test_limits_are_read() -> None:
    settings = load(
        environ={
            "PENSTOCK_API_MAX_TOKENS_PER_MINUTE": "100",
            "PENSTOCK_API_REQUEST_TIMEOUT_S": "30",
            "PENSTOCK_LIMITS_CONCURRENT_REQUESTS": "10",
            "PENSTOCK_LIMITS_WHEN_UNAVAILABLE": "open",
            "PENSTOCK_REDIS_URL": "redis://cache:6379/0",
            "PENSTOCK_REDIS_TIMEOUT_S": "0.25",
        }
    )
    assert settings.api.max_tokens_per_minute == 100
    assert settings.request_timeout_s == 30.0
    assert settings.limits.concurrent_requests == 10
    assert settings.limits.when_unavailable == "open"
    assert (settings.redis.url, settings.redis.timeout_s) == ("redis://cache:6379/0", 0.25)
    assert "cache:6379" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("API_TOKENS", lambda settings: ",".join(settings.api_tokens)),
        ("PENSTOCK_SERVICE_TOKEN", lambda settings: settings.service_token),
        ("PENSTOCK_API_API_KEY", lambda settings: settings.api.api_key),
        ("PENSTOCK_REDIS_URL", lambda settings: settings.redis.url),
    ],
)
def test_secrets_may_lie_in_files(
    variable: str, read: Callable[[Settings], str], tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://:s3cret@redis\n")
    environ = {f"{variable}_FILE": str(file)}
    assert read(load(environ=environ)) == "redis://:s3cret@redis"
    with pytest.raises(SettingsError, match="both set"):
        load(environ=environ | {variable: "x"})
    with pytest.raises(SettingsError, match="can't be read"):
        load(environ={f"{variable}_FILE": str(tmp_path / "none")})
