"""Sections of the settings: frozen dataclasses, a docstring under each field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.settings_loader import key

_DATA_DIR = Path(".penstock")

ServiceName = Literal["model", "inference", "embedding", "image", "training", "retrieval"]


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """`[api.models.<id>]`: a model to serve; `<id>` is its public ID."""

    path: Path
    """Folder of the weights."""
    type: Literal["chat", "completion", "embedding", "rerank", "image"] = "chat"
    """What the model does."""
    context_length: int | None = key(None, minimum=1)
    """Most tokens of prompt and output. Default: what the model's own configuration says."""
    default_temperature: float | None = key(None, minimum=0, maximum=2)
    """Temperature of requests that name none. Default: 1."""
    dimensions: int | None = key(None, minimum=1)
    """Length of the vectors of an embedding model. Default: the model's own. Less is for models
    that were trained to be shortened."""
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
    """Most tokens a minute for each key. 0: as many as it likes. Not available yet: leave it 0."""
    cors_enabled: bool = True
    """Whether browsers of other origins may call."""
    cors_origins: tuple[str, ...] = ("*",)
    """Which origins."""
    models: Mapping[str, ModelSettings] = field(default_factory=dict[str, ModelSettings])
    """Models to serve, by ID. Default: the starter that comes with the repository. As a variable:
    JSON."""


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """`[auth]`: who may call."""

    token_file: Path = Path()
    """Tokens as SHA-256 with roles. Default: `<data_dir>/tokens.json`."""
    api_tokens: tuple[str, ...] = key((), secret=True, env="API_TOKENS", env_only=True)
    """Keys of users. Only as the variable `API_TOKENS`."""
    service_token: str = key("", secret=True, env="PENSTOCK_SERVICE_TOKEN", env_only=True)
    """Token of calls between services; each needs the same one. Only as
    `PENSTOCK_SERVICE_TOKEN`."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """`[services.<name>]`: one service."""

    address: str
    """Where it listens, as host:port. Port 0 takes a free one."""
    target: str = ""
    """Where others reach it. Default: its address."""
    database_url: str = key("", secret=True)
    """Its own database. Default: `[database] url`, else a SQLite file in the data directory."""
    grace_s: float = key(30.0, minimum=0.0)
    """Time that running calls get to finish when it stops."""
    drain_delay_s: float = key(0.0, minimum=0.0)
    """Time between telling load balancers of the stop and refusing calls."""
    reflection: bool = True
    """Whether tools may ask it for its protos."""


@dataclass(frozen=True, kw_only=True)
class CatalogueSettings(ServiceSettings):
    """`[services.model]`."""

    model_roots: tuple[str, ...] = ()
    """Folders that deploy calls may take models from, with all below them; absolute paths. Empty:
    any folder."""


@dataclass(frozen=True, kw_only=True)
class InferenceSettings(ServiceSettings):
    """`[services.inference]`."""

    engine: Literal["torch", "openvino", "echo"] = "torch"
    """What performs inference. `openvino` is for processors: it converts a model when that is first
    deployed, and keeps the result in the data directory; needs the extra of that name. `echo`
    answers with the prompt, for trials without a model."""
    max_batch_size: int = key(16, minimum=1)
    """Most sequences that run together."""
    queue_limit: int = key(128, minimum=0)
    """Most requests that wait. Beyond that they are turned away at once."""
    max_context: int = key(4096, minimum=1)
    """Most tokens of a sequence, whatever the model could take."""
    step_tokens: int = key(512, minimum=1)
    """Tokens computed in one step: one of each running stream, the rest for prompts (at least
    16). Less keeps streams smoother while long prompts arrive; more reads prompts faster."""
    speculative_tokens: int = key(0, minimum=0)
    """Most tokens of a stream that the torch engine guesses in a step, from what the stream held
    before, and checks together; 0 is off. Answers stay what they are; those that repeat parts of
    their prompts come in fewer steps. 8 is a good value for summaries, edits of text and code."""
    kv_cache_bytes: int = key(0, minimum=0)
    """Attention memory of a model, kept prefixes included. 0: enough for `max_batch_size` whole
    contexts, at most half of what is free (nine tenths on a GPU)."""
    max_adapters: int = key(16, minimum=0)
    """Most LoRA adapters that a model of the torch engine serves beside itself. 0: none."""
    max_adapter_rank: int = key(256, minimum=1)
    """Largest rank of a LoRA adapter. Bounds its memory, together with `max_adapters`."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:<n>`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. `auto`: what the model was saved as, where the device can."""
    decoder: Literal["auto", "transformers"] = "auto"
    """Code that the torch engine runs models on. `auto`: its own for the architectures that it
    knows, transformers' for others. `transformers`: that for all."""
    slow_reader_timeout_s: float = key(30.0, minimum=0.0)
    """How long a stream may wait for its reader before it is ended."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(ServiceSettings):
    """`[services.retrieval]`."""

    embedding_model: str = ""
    """Embedding model of collections that name none. Empty: the first that serves, by ID."""
    chunk_tokens: int = key(256, minimum=16, maximum=8192)
    """Most tokens of a chunk where the collection names no limit; at most what its model takes."""
    chunk_overlap_tokens: int = key(32, minimum=0, maximum=8191)
    """Tokens that neighbouring chunks share where the collection doesn't say."""
    search_mode: Literal["vector", "hybrid"] = "vector"
    """How texts are looked for where the search doesn't say: by vectors, or by vectors and
    words."""
    upsert_batch_bytes: int = key(8 * 1024 * 1024, minimum=1)
    """Text of the documents that are embedded and stored together, unless one alone has more. A few
    such batches are in memory for each stream of documents."""
    embed_call_tokens: int = key(8192, minimum=1)
    """About how many tokens of documents go to EmbeddingService in one call."""
    index_cache_bytes: int = key(1024 * 1024 * 1024, minimum=0)
    """Most memory for vectors that are kept beside a database without an index of its own."""
    sweep_interval_s: float = key(60.0, minimum=1.0)
    """Time between sweeps for collections whose `expire_time` has passed."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings(ServiceSettings):
    """`[services.embedding]`."""

    engine: Literal["torch", "echo"] = "torch"
    """What makes vectors. `echo` adds up hashed words, for trials without a model."""
    queue_limit: int = key(256, minimum=1)
    """Most calls that wait for a model or run. Beyond that they are turned away at once."""
    queue_tokens: int = key(1_000_000, minimum=1)
    """Most tokens that wait for a model. A call that has more comes in when nothing else waits."""
    max_batch_tokens: int = key(0, minimum=0)
    """Most tokens that are computed together, of as many calls as it takes. More is faster only
    until the processor is busy, and keeps small calls waiting longer. 0: what suits the engine."""
    max_call_tokens: int = key(300_000, minimum=1)
    """Most tokens of one call, over all of its inputs."""
    truncation: Literal["refuse", "keep_start", "keep_end"] = "refuse"
    """What happens to inputs that are too long, where a call doesn't say."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:<n>`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. `auto`: bfloat16 where the device is made for it, else float32."""
    encoder: Literal["auto", "transformers"] = "auto"
    """Code that the torch engine runs models on. `auto`: its own, without padding, for the
    architectures that it knows, transformers' for others. `transformers`: that for all."""


def _at(port: int) -> Callable[[], ServiceSettings]:
    return lambda: ServiceSettings(address=f"127.0.0.1:{port}")


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
    image: ServiceSettings = field(default_factory=_at(50054))
    """Images."""
    training: ServiceSettings = field(default_factory=_at(50055))
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


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """`[log]`: what is written to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level written."""
    format: Literal["console", "json"] = "console"
    """For people, or one JSON object a line."""


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """`[database]`: the default of all services."""

    url: str = key("", secret=True)
    """SQLAlchemy URL with an async driver. Empty: a SQLite file for each service."""


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
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    """`[database]`."""
