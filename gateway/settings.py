"""Settings of the edge. The only reader of the environment and the configuration file here.

The file is the one that the services read too (`penstock.toml`). This module knows the sections
that the edge uses and refuses unknown keys in them; the services check theirs.
"""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from gateway import settings_limits, settings_telemetry
from gateway.settings_auth import AuthSettings
from gateway.settings_limits import LimitSettings, RedisSettings
from gateway.settings_telemetry import LogSettings, TelemetrySettings
from gateway.settings_values import (
    SettingsError,
    check_known,
    coerce,
    from_kubernetes,
    section_table,
    section_tables,
    split_address,
    with_secrets,
)
from policy.oidc import JwtRules

_T = TypeVar("_T")

SERVICE_PORTS = {
    "model": 50051,
    "inference": 50052,
    "embedding": 50053,
    "image": 50054,
    "training": 50055,
    "retrieval": 50056,
}
"""Services and the ports that they have by default."""

SECTIONS = (
    *("api", "auth", "services", "tls", "log", "limits", "redis", "telemetry"),
    *("database", "blobs", "training", "triton", "usage"),
)
_NESTED = ("PENSTOCK_AUTH_JWT_", "PENSTOCK_AUTH_MTLS")
_FILES = frozenset({"token_file", "jwks_file", "certificate", "key", "client_ca"})
_OTHERS = frozenset({"PENSTOCK_API_KEY", "PENSTOCK_API_MODELS"})
"""Variables that look like the edge's and belong to clients and to the catalogue."""

_TARGET_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")
"""What gRPC itself resolves; anything else is host:port."""

MODEL_KEYS = (
    *("path", "type", "context_length", "default_temperature", "dimensions", "aliases"),
    *("default_steps", "default_cfg_scale"),
)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """`[api]`: how the edge is reached and what it allows."""

    enabled: bool = True
    """False refuses to start."""
    address: str = "127.0.0.1:8080"
    """Where it listens, as host:port. Port 0 takes a free one."""
    metrics_address: str = ""
    """Where its metrics are. Empty: on loopback, at the port + 1000. `off`: nowhere."""
    api_key: str = ""
    """One more token, with the role `user`."""
    require_auth: bool = True
    """False lets callers without credentials use inference."""
    max_requests_per_minute: int = 0
    """Requests that one token may make a minute. 0 is no limit."""
    max_tokens_per_minute: int = 0
    """Tokens that one token may use a minute. 0 is no limit."""
    request_timeout_s: int = 600
    """Most time for a request; callers may ask for less."""
    max_upload_bytes: int = 512 * 1024 * 1024
    """Largest file of `POST /v1/files`. It waits on disk, in TMPDIR, until all of it is here."""
    batch_concurrency: int = 8
    """Requests of batches that run here at the same time. 0 leaves batches to other edges."""
    cors_enabled: bool = True
    """Answers browsers of other origins."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins that are answered. `*` is all."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """`[tls]`: certificates between processes."""

    certificate: str = ""
    """PEM file that this process shows to services."""
    key: str = ""
    """PEM file of its key."""
    client_ca: str = ""
    """PEM file of the authority that signs every process; set means mutual TLS."""
    peers: tuple[str, ...] = ()
    """Who may call services: they look themselves."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the edge is told."""

    api: ApiSettings = field(default_factory=ApiSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    data_dir: Path = Path(".penstock")
    """Folder of keys and tokens."""
    addresses: Mapping[str, str] = field(
        default_factory=lambda: {n: f"127.0.0.1:{p}" for n, p in SERVICE_PORTS.items()}
    )
    """Where each service is."""
    expected_services: frozenset[str] = frozenset({"model", "inference"})
    """Services whose absence makes the platform's health degraded."""
    api_tokens: tuple[str, ...] = ()
    """`API_TOKENS`: tokens with the role `user`."""
    service_token: str = field(default="", repr=False)
    """The edge's own token, with the role `service`."""
    max_body_bytes: int = 64 * 1024 * 1024
    """Largest request body."""
    request_timeout_s: float = 600.0
    """Most time for a request, from `[api]`."""
    drain_s: int = 30
    """Time that running requests get to finish after SIGTERM."""
    ping_interval_s: float = 15.0
    """Silence after which a stream is pinged."""
    slow_reader_s: float = 60.0
    """Time that a stalled client gets before its stream is cancelled."""

    @property
    def host_port(self) -> tuple[str, int]:
        """Where the edge listens."""
        return split_address(self.api.address, "api.address")

    @property
    def token_file(self) -> Path:
        """The file of hashed tokens."""
        return Path(self.auth.token_file) if self.auth.token_file else self.data_dir / "tokens.json"

    @property
    def admin_key_file(self) -> Path:
        """The file of the key that the first start made."""
        return self.data_dir / "admin-key"


def load(
    config: Path | None = None,
    *,
    data_dir: Path | None = None,
    port: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Reads the file, then the environment over it, then what the command line says.

    Raises:
        SettingsError: a key is unknown or a value is wrong; the message says what to do.
    """
    env = with_secrets(os.environ if environ is None else environ)
    document, base = _read(config, env)
    check_known(document, SECTIONS, "section")
    api = dict(section_table(document, "api"))
    models = api.pop("models", {})
    for model_id, model in section_tables(models, "api.models").items():
        check_known(model, MODEL_KEYS, f"key in [api.models.{model_id}]")
    services = section_table(document, "services")
    check_known(services, (*SERVICE_PORTS, "data_dir"), "key in [services]")

    given_dir = services.get("data_dir", "")
    table = section_table(document, "telemetry")
    telemetry = settings_telemetry.completed(
        _section(TelemetrySettings, "telemetry", table, env, base), env
    )
    settings = Settings(
        api=_section(ApiSettings, "api", api, env, base),
        auth=_auth(document, env, base),
        tls=_section(TlsSettings, "tls", section_table(document, "tls"), env, base),
        log=_section(LogSettings, "log", section_table(document, "log"), env, base),
        telemetry=telemetry,
        limits=_section(LimitSettings, "limits", section_table(document, "limits"), env, base),
        redis=_section(RedisSettings, "redis", section_table(document, "redis"), env, base),
        data_dir=data_dir or _data_dir(env, given_dir, base),
        api_tokens=tuple(t.strip() for t in env.get("API_TOKENS", "").split(",") if t.strip()),
        service_token=env.get("PENSTOCK_SERVICE_TOKEN", ""),
    )
    addresses, explicit = _addresses(services, env)
    settings = dataclasses.replace(
        settings,
        addresses=addresses,
        expected_services=frozenset({"model", "inference"}) | explicit,
        request_timeout_s=float(settings.api.request_timeout_s),
    )
    if port is not None:
        host, _ = settings.host_port
        api_settings = dataclasses.replace(settings.api, address=f"{host}:{port}")
        settings = dataclasses.replace(settings, api=api_settings)
    _check(settings)
    return settings


def _read(config: Path | None, env: Mapping[str, str]) -> tuple[dict[str, Any], Path]:
    """Reads the file; returns with it the folder that its relative paths are relative to."""
    path = config or (Path(env["PENSTOCK_CONFIG"]) if env.get("PENSTOCK_CONFIG") else None)
    if path is None:
        path = Path("penstock.toml")
        if not path.exists():
            return {}, Path()
    try:
        return tomllib.loads(path.read_text("utf-8")), path.parent
    except OSError as error:
        raise SettingsError(f"{path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _data_dir(env: Mapping[str, str], given: object, base: Path) -> Path:
    if env.get("PENSTOCK_DATA_DIR"):
        return Path(env["PENSTOCK_DATA_DIR"])
    return base / Path(str(given)).expanduser() if given else Path(".penstock")


def _section(
    kind: type[_T], name: str, table: Mapping[str, Any], env: Mapping[str, str], base: Path
) -> _T:
    fields = {f.name: f for f in dataclasses.fields(cast("Any", kind))}
    check_known(table, tuple(fields), f"key in [{name}]")
    values: dict[str, Any] = dict(table)
    for key in fields.keys() & _FILES & values.keys():
        if values[key]:
            values[key] = str(base / Path(str(values[key])).expanduser())
    prefix = f"PENSTOCK_{name.upper().replace('.', '_')}_"
    named = {f"{prefix}{key.upper()}": key for key in fields}
    given = {
        key: env[key]
        for key in env
        if key.startswith(prefix) and key not in _OTHERS and not from_kubernetes(key, env)
    }
    check_known(given, tuple(named), "environment variable")
    values |= {named[key]: value for key, value in given.items()}
    return kind(**{k: coerce(v, fields[k].type, f"{name}.{k}") for k, v in values.items()})


def _auth(document: Mapping[str, Any], env: Mapping[str, str], base: Path) -> AuthSettings:
    table = section_table(document, "auth")
    jwt = _section(JwtRules, "auth.jwt", section_table(table, "jwt"), env, base)
    auth = {name: table[name] for name in table if name not in ("jwt", "mtls")}
    own = {name: env[name] for name in env if not name.startswith(_NESTED)}
    return dataclasses.replace(_section(AuthSettings, "auth", auth, own, base), jwt=jwt)


def _addresses(
    services: Mapping[str, Any], env: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    addresses: dict[str, str] = {}
    explicit: set[str] = set()
    for name, port in SERVICE_PORTS.items():
        table = section_table(services, name)
        given = ""
        for key in ("target", "address"):  # where others reach it, else where it listens
            variable = f"PENSTOCK_SERVICES_{name.upper()}_{key.upper()}"
            given = given or env.get(variable, "") or str(table.get(key, ""))
        if given:
            if not given.startswith(_TARGET_SCHEMES):
                split_address(given, f"services.{name}.address")
            explicit.add(name)
        addresses[name] = given or f"127.0.0.1:{port}"
    return addresses, frozenset(explicit)


def _check(settings: Settings) -> None:
    _ = settings.host_port
    for key in ("max_requests_per_minute", "max_tokens_per_minute", "batch_concurrency"):
        if getattr(settings.api, key) < 0:
            raise SettingsError(f"api.{key} must not be negative")
    for key in ("max_upload_bytes", "request_timeout_s"):
        if getattr(settings.api, key) < 1:
            raise SettingsError(f"api.{key} must be at least 1")
    settings_limits.check(settings.limits, settings.redis)
    settings_telemetry.check(settings.log)
    if bool(settings.tls.certificate) != bool(settings.tls.key):
        raise SettingsError("tls.certificate and tls.key go together")
