"""Sections of the settings: frozen dataclasses, a docstring under each field. Those of the services
stand in `services.settings_services`, those of training jobs in `services.settings_training`, those
of callers in `services.settings_auth`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.settings_auth import AuthSettings
from services.settings_loader import key
from services.settings_services import (
    CatalogueSettings,
    EmbeddingSettings,
    ImageSettings,
    InferenceSettings,
    RetrievalSettings,
    ServiceName,
    ServiceSettings,
    TrainingSettings,
)
from services.settings_training import TrainerSettings
from services.settings_triton import TritonSettings

_DATA_DIR = Path(".penstock")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """`[api.models.<id>]`: a model to serve; `<id>` is its public ID."""

    path: Path
    """Folder of the weights."""
    type: Literal["chat", "completion", "embedding", "rerank", "image", "tensor"] = "chat"
    """What the model does."""
    context_length: int | None = key(None, minimum=1)
    """Most tokens of prompt and output. Default: what the model's own configuration says."""
    default_temperature: float | None = key(None, minimum=0, maximum=2)
    """Temperature of requests that name none. Default: 1."""
    dimensions: int | None = key(None, minimum=1)
    """Length of the vectors of an embedding model. Default: the model's own. Less is for models
    that were trained to be shortened."""
    default_steps: int | None = key(None, minimum=1, maximum=1000)
    """Denoising steps of images whose requests name none. Default: 20."""
    default_cfg_scale: float | None = key(None, minimum=0, maximum=100)
    """How strongly prompts guide images whose requests don't say. Default: 7."""
    aliases: tuple[str, ...] = ()
    """Other IDs that mean this model."""


@dataclass(frozen=True, kw_only=True)
class ApiSettings:
    """`[api]`: the REST edge."""

    enabled: bool = True
    """Whether the edge runs."""
    address: str = "127.0.0.1:8080"
    """Where it listens, as host:port."""
    api_key: str = key("", secret=True)
    """One key of a user. Empty: none."""
    require_auth: bool = True
    """Whether inference needs a key. Managing always does."""
    max_requests_per_minute: int = key(0, minimum=0)
    """Most requests a minute for each key. 0: as many as it likes."""
    max_tokens_per_minute: int = key(0, minimum=0)
    """Most tokens a minute for each key, prompt and output together. 0: as many as it likes."""
    request_timeout_s: int = key(600, minimum=1)
    """Most time for a request. Callers may ask for less, by the header `X-Request-Timeout`."""
    max_upload_bytes: int = key(512 * 1024 * 1024, minimum=1)
    """Largest file that the edge takes for `/v1/files`. It waits in TMPDIR until all of it is
    here. The training service has a limit of its own."""
    metrics_address: str = ""
    """Where Prometheus finds its metrics, as host:port; `off`: nowhere. Default: this machine
    alone, at the port of its address + 1000."""
    batch_concurrency: int = key(8, minimum=0)
    """Requests of batches that this edge runs at the same time. 0: it leaves batches to others."""
    cors_enabled: bool = True
    """Whether browsers of other origins may call."""
    cors_origins: tuple[str, ...] = ("*",)
    """Which origins."""
    models: Mapping[str, ModelSettings] = field(default_factory=dict[str, ModelSettings])
    """Models to serve, by ID. Default: the starters that come with the repository. As a variable:
    JSON."""


@dataclass(frozen=True, kw_only=True)
class ServicesSettings:
    """`[services]`: what all services share, and each one's own."""

    data_dir: Path = field(default=_DATA_DIR, metadata={"env": "PENSTOCK_DATA_DIR"})
    """Where everything is kept that has no other place."""
    model: CatalogueSettings = field(
        default_factory=lambda: CatalogueSettings(address="127.0.0.1:50051")
    )
    """The catalogue."""
    inference: InferenceSettings = field(
        default_factory=lambda: InferenceSettings(address="127.0.0.1:50052")
    )
    """Chat and completion."""
    embedding: EmbeddingSettings = field(
        default_factory=lambda: EmbeddingSettings(address="127.0.0.1:50053")
    )
    """Embeddings and reranking."""
    image: ImageSettings = field(default_factory=lambda: ImageSettings(address="127.0.0.1:50054"))
    """Images."""
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(address="127.0.0.1:50055")
    )
    """Fine-tuning."""
    retrieval: RetrievalSettings = field(
        default_factory=lambda: RetrievalSettings(address="127.0.0.1:50056")
    )
    """Retrieval."""

    def of(self, name: ServiceName) -> ServiceSettings:
        """Returns one service's settings."""
        return getattr(self, name)


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """`[tls]`: certificates of the services and of calls between them (PEM files)."""

    certificate: Path | None = None
    """Certificate and its chain. None: plain text."""
    key: Path | None = None
    """Its private key."""
    client_ca: Path | None = None
    """Authority that signs every process; with it, callers need a certificate (mutual TLS)."""
    peers: tuple[str, ...] = ()
    """SPIFFE IDs that callers' certificates must have, such as `spiffe://penstock/*`. Empty: any
    that the authority signed."""


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """`[log]`: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level written."""
    format: Literal["console", "json"] = "console"
    """For people, or one JSON object a line."""


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """`[telemetry]`: where traces go."""

    otlp_endpoint: str = ""
    """An OpenTelemetry collector's address for gRPC: `http://host:4317`, or https. Default: what
    `OTEL_EXPORTER_OTLP_ENDPOINT` says; without either, nothing is traced."""


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """`[database]`: the default of all services."""

    url: str = key("", secret=True)
    """SQLAlchemy URL with an async driver. Empty: a SQLite file for each service."""


@dataclass(frozen=True, kw_only=True)
class BlobSettings:
    """`[blobs]`: where the content of files is kept."""

    folder: Path = Path()
    """Folder. Default: `<data_dir>/blobs`."""
    url: str = ""
    """An object store in place of the folder: `s3://bucket/prefix`. Needs the extra `s3`."""
    endpoint_url: str = ""
    """Where an object store is that is not Amazon's."""
    region: str = ""
    """Its region. Empty: as Amazon's own tools find it."""
    access_key_id: str = key("", secret=True)
    """Credential for it. Empty: as Amazon's own tools find it."""
    secret_access_key: str = key("", secret=True)
    """The other half of the credential."""


@dataclass(frozen=True, kw_only=True)
class UsageSettings:
    """`[usage]`: the account of what requests used."""

    retention_days: int = key(0, minimum=0)
    """How long records are kept in the ledger. 0: for ever."""
    journal_bytes: int = key(256 * 1024 * 1024, minimum=0)
    """Most room for records that wait in `<data_dir>/usage` until the ledger has them. 0: any."""
    when_full: Literal["serve", "refuse"] = "serve"
    """What becomes of requests when that room is used up. `serve`: they are served, and their
    records go to the log. `refuse`: they are turned away."""


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """`[limits]`: more limits of who has none of its own, beside those of `[api]`."""

    concurrent_requests: int = key(0, minimum=0)
    """Most requests of each key that run or wait at once. 0: as many as it likes."""
    tokens_per_day: int = key(0, minimum=0)
    """Most tokens a day (UTC) for each key. 0: as many as it likes."""
    tokens_per_month: int = key(0, minimum=0)
    """Most tokens a calendar month (UTC) for each key. 0: as many as it likes."""
    when_unavailable: Literal["closed", "closed_for_tokens", "open"] = "closed_for_tokens"
    """What happens while limits can't be checked. `closed`: requests that have one are turned away.
    `closed_for_tokens`: those with a limit of tokens, which cost money. `open`: none."""


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """`[redis]`: where limits are counted for all processes together."""

    url: str = key("", secret=True)
    """`redis://`, `rediss://` or `unix://`. Empty: each process counts for itself."""
    timeout_s: float = key(2.0, minimum=0.01)
    """How long it is waited for."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything."""

    api: ApiSettings = field(default_factory=ApiSettings)
    """`[api]`."""
    auth: AuthSettings = field(default_factory=AuthSettings)
    """`[auth]`."""
    services: ServicesSettings = field(default_factory=ServicesSettings)
    """`[services]`."""
    tls: TlsSettings = field(default_factory=TlsSettings)
    """`[tls]`."""
    log: LogSettings = field(default_factory=LogSettings)
    """`[log]`."""
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    """`[telemetry]`."""
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    """`[database]`."""
    blobs: BlobSettings = field(default_factory=BlobSettings)
    """`[blobs]`."""
    training: TrainerSettings = field(default_factory=TrainerSettings)
    """`[training]`."""
    usage: UsageSettings = field(default_factory=UsageSettings)
    """`[usage]`."""
    limits: LimitSettings = field(default_factory=LimitSettings)
    """`[limits]`."""
    redis: RedisSettings = field(default_factory=RedisSettings)
    """`[redis]`."""
    triton: TritonSettings = field(default_factory=TritonSettings)
    """`[triton]`."""
