"""Settings of training jobs: `[training]`. TrainingService runs them; ModelService finds in the
same folder what they made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.settings_loader import key


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """`[training.datasets.<name>]`: examples that jobs name without uploading them."""

    path: Path
    """File of JSON lines, where TrainingService runs."""


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """`[training]`: training jobs."""

    folder: Path = Path()
    """Where jobs keep their checkpoints and results. Default: `<data_dir>/training`. On several
    machines: a volume that TrainingService, its workers, ModelService and InferenceService have at
    the same path."""
    organisation: str = "local"
    """Part of the results' IDs, `ft:<base>:<organisation>:<suffix>:<short>`."""
    trainer: Literal["local", "ray"] = "local"
    """Where workers run. `local`: processes beside the service. `ray`: jobs of a Ray cluster."""
    max_jobs: int = key(1, minimum=1)
    """Most jobs that train at the same time. The rest wait."""
    max_queued_jobs: int = key(1000, minimum=1)
    """Most jobs that have not ended, of all callers. Beyond that they are turned away at once."""
    max_restarts: int = key(3, minimum=0)
    """How often in a row a worker that died is started again before its job fails. A new checkpoint
    starts the count anew."""
    max_checkpoints: int = key(10, minimum=1)
    """Most checkpoints of a job that are kept; older ones are removed."""
    heartbeat_timeout_s: float = key(60.0, minimum=5.0)
    """A worker that is silent for so long is killed, and counts as dead."""
    stop_workers_on_exit: bool = True
    """Whether workers of the local trainer write a checkpoint and end when the service is told to
    stop; it goes on with their jobs when it starts again. If not, they train on without it."""
    worker_threads: int = key(0, minimum=0)
    """CPU threads of a worker. 0: all cores but one, shared by `max_jobs`; of Ray's workers, what
    `ray_cpus` says."""
    worker_nice: int = key(10, minimum=0, maximum=19)
    """How far workers step back for other processes: 0 is not at all."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:<n>`."""
    memory_bytes: int = key(0, minimum=0)
    """Most memory that a worker plans with. 0: nine tenths of what is free when it starts."""
    ray_address: str = ""
    """The Ray cluster's dashboard, such as `http://head:8265`. The trainer `ray` needs it."""
    ray_token: str = key("", secret=True)
    """Bearer token that the dashboard asks for. Empty: none."""
    ray_ca_file: Path | None = None
    """What an https address is checked with (PEM). Default: the system's certificates."""
    ray_python: str = "python"
    """Python on the cluster's nodes, with Penstock in it."""
    ray_cpus: float = key(1.0, minimum=0.0)
    """CPUs that a job reserves in the cluster."""
    ray_gpus: float = key(0.0, minimum=0.0)
    """GPUs that a job reserves. With neither, Ray runs it on its head node."""
    ray_processes: int = key(1, minimum=1)
    """Processes that train a job together, on one node."""
    datasets: Mapping[str, DatasetSettings] = field(default_factory=dict[str, DatasetSettings])
    """Examples that jobs name without uploading them. As a variable: JSON."""
