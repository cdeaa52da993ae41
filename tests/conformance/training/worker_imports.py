"""Imports what a worker imports, in the environment that it would have set for itself before."""

from services.training.folder import Plan
from services.training.worker.environment import prepare

prepare(
    Plan(
        job_id="none",
        model_id="none",
        base_folder="none",
        kind="chat",
        examples="chat",
        seed=0,
        device="cpu",
        threads=1,
    )
)

import services.training.worker.training  # noqa: E402, F401 # pyright: ignore[reportUnusedImport]
