"""Sections of the services: `[services.<name>]`."""

from dataclasses import dataclass
from typing import Literal

from services.settings_loader import key

ServiceName = Literal["model", "inference", "embedding", "image", "training", "retrieval"]


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """`[services.<name>]`: one service."""

    address: str
    """Where it listens, as host:port. Port 0 takes a free one."""
    target: str = ""
    """Where others reach it: host:port, or a name that gRPC resolves, such as
    `dns:///penstock-model:50051` or `xds:///penstock-model`. Default: its address."""
    database_url: str = key("", secret=True)
    """Its own database. Default: `[database] url`, else a SQLite file in the data directory."""
    grace_s: float = key(30.0, minimum=0.0)
    """Time that running calls get to finish when it stops."""
    drain_delay_s: float = key(0.0, minimum=0.0)
    """Time between telling load balancers of the stop and refusing calls."""
    reflection: bool = True
    """Whether tools may ask it for its protos."""
    metrics_address: str = ""
    """Where Prometheus finds its metrics, as host:port; `off`: nowhere. Default: this machine
    alone, at the port of its address + 1000."""


@dataclass(frozen=True, kw_only=True)
class CatalogueSettings(ServiceSettings):
    """`[services.model]`."""

    model_roots: tuple[str, ...] = ()
    """Folders that deploy calls may take models from, with all below them; absolute paths. Empty:
    any folder."""


@dataclass(frozen=True, kw_only=True)
class InferenceSettings(ServiceSettings):
    """`[services.inference]`."""

    engine: Literal["torch", "openvino", "triton", "echo"] = "torch"
    """What performs inference. `openvino` is for processors: it converts a model when that is first
    deployed, and keeps the result in the data directory; needs the extra of that name. `triton`
    calls the servers of `[triton]`; needs the extra of that name. `echo` answers with the prompt,
    for trials without a model."""
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
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "fp8"] = "auto"
    """Type of the weights. `auto`: bfloat16 where the device is made for it, else float32. `int8`
    (for processors), `fp8` (for GPUs): the torch engine's own code keeps the layers' matrices in
    eight bits, the rest as before. A deployment's `quantization` goes before it."""
    decoder: Literal["auto", "transformers"] = "auto"
    """Code that the torch engine runs models on. `auto`: its own for the architectures that it
    knows, transformers' for others. `transformers`: that for all."""
    cuda_graphs: bool = True
    """Whether the torch engine's own code records its decode steps as CUDA graphs, which start as
    one kernel. Without a GPU it changes nothing."""
    slow_reader_timeout_s: float = key(30.0, minimum=0.0)
    """How long a stream may wait for its reader before it is ended."""
    response_days: float = key(30.0, minimum=0.001)
    """How long stored responses are kept."""
    max_conversation_responses: int = key(1000, minimum=1)
    """Responses after which a conversation by `previous_response_id` can't be continued."""
    max_conversation_bytes: int = key(32 * 1024 * 1024, minimum=1, maximum=56 * 1024 * 1024)
    """Bytes of what was said after which it can't."""
    sweep_interval_s: float = key(60.0, minimum=1.0)
    """Time between sweeps for stored responses that have expired."""


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

    engine: Literal["torch", "triton", "echo"] = "torch"
    """What makes vectors. `triton`: a model on Triton (`[triton]`). `echo` adds up hashed words,
    for trials without a model."""
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


@dataclass(frozen=True, kw_only=True)
class ImageSettings(ServiceSettings):
    """`[services.image]`."""

    engine: Literal["diffusers", "triton", "echo"] = "diffusers"
    """What draws. `triton`: a model on Triton (`[triton]`). `echo` draws coloured patches, for
    trials without a model."""
    queue_limit: int = key(64, minimum=1)
    """Most jobs that wait for a model or run. Beyond that they are turned away at once."""
    queue_bytes: int = key(1024 * 1024 * 1024, minimum=1)
    """Most memory of initial images and masks of the jobs that wait for a model or run. A job that
    has more comes in when there is no other."""
    max_pixels: int = key(2048 * 2048, minimum=64)
    """Most pixels of an image, in its final size."""
    max_steps: int = key(150, minimum=1, maximum=1000)
    """Most denoising steps of an image; of each pass, where there are two."""
    max_batch_size: int = key(16, minimum=1, maximum=64)
    """Most images of a batch."""
    max_images: int = key(64, minimum=1)
    """Most images of a job: those of a batch times the batches."""
    max_input_pixels: int = key(33_554_432, minimum=64)
    """Most pixels of an initial image, and of a mask."""
    memory_bytes: int = key(0, minimum=0)
    """Most memory that drawing may take, beside the weights. What takes more for a single image is
    refused; fewer images are drawn together where it doesn't do for all. 0: nine tenths of what is
    free at that moment."""
    batching: Literal["exact", "any", "off"] = "exact"
    """Which images are drawn together. `exact`: of all jobs that want the same size, steps and so
    on, as far as each comes out as it would alone, to the byte. `any`: also where they differ by
    rounding. `off`: only those of one job."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:<n>`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. `auto`: bfloat16 where the device is made for it, else float32."""
    compile: bool = False
    """Whether the denoiser is compiled: the first image of each size takes minutes, the next are
    drawn faster. Pays on a GPU."""
    slow_reader_timeout_s: float = key(30.0, minimum=0.0)
    """How long finished images may lie unread before their job is ended."""


Purpose = Literal["fine-tune", "batch", "user_data", "assistants", "vision", "evals"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ServiceSettings):
    """`[services.training]`."""

    max_file_bytes: int = key(512 * 1024 * 1024, minimum=1)
    """Most bytes of an uploaded file."""
    max_owner_bytes: int = key(10 * 1024 * 1024 * 1024, minimum=0)
    """Most bytes of all files that one key uploaded. 0: any number."""
    file_purposes: tuple[Purpose, ...] = (
        "fine-tune",
        "batch",
        "user_data",
        "assistants",
        "vision",
        "evals",
    )
    """What files may be uploaded for."""
    file_types: tuple[str, ...] = ()
    """Media types that may be uploaded, such as `application/jsonl` or `image/*`. Empty: any."""
    max_uploads: int = key(32, minimum=1)
    """Most files that are received at the same time. Beyond that they are turned away at once."""
    upload_timeout_s: float = key(60.0, minimum=0.1)
    """How long an upload may stand still before it is given up."""
    slow_reader_timeout_s: float = key(30.0, minimum=0.1)
    """How long a download may wait for its reader before it is ended."""
    sweep_interval_s: float = key(60.0, minimum=0.1)
    """Time between sweeps for expired files, and for what broken uploads left behind."""
    max_batch_lines: int = key(50_000, minimum=1)
    """Most requests of a batch."""
    max_batch_bytes: int = key(200 * 1024 * 1024, minimum=1)
    """Most bytes of a batch's file."""
    max_batches: int = key(1000, minimum=1)
    """Most batches that have not ended, of all callers. Beyond that they are turned away at
    once."""
