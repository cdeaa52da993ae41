"""Sets what libraries read from the environment when they are imported. No torch."""

import os
from collections.abc import MutableMapping

import msgspec

from services.training.folder import Plan

_QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_DISABLED": "true",
}
"""No network, no telemetry, no progress bars."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def rank() -> int:
    """This process's place among those that train the job together, from 0."""
    return int(_environment().get("RANK", "0"))


def world_size() -> int:
    """How many processes train the job together."""
    return int(_environment().get("WORLD_SIZE", "1"))


def prepare(plan: Plan) -> Plan:
    """Sets the environment for a plan and makes the process nice.

    Returns:
        The plan, with the device as it is called in the environment set.
    """
    environment = _environment()
    environment.update(_QUIET)
    if plan.threads:
        environment.update(dict.fromkeys(_THREADS, str(plan.threads)))
    if plan.nice:
        os.nice(plan.nice)
    if "LOCAL_RANK" in environment:
        return plan  # torchrun gives each process a device of its own
    return msgspec.structs.replace(plan, device=_one_device(environment, plan.device))


def _one_device(environment: MutableMapping[str, str], device: str) -> str:
    """Hides all GPUs but the one wanted, for trainers would use all that they see."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        environment[_VISIBLE] = ""
        return device
    if kind not in ("auto", "cuda") or (index and not index.isdecimal()):
        return device
    visible = [one for one in environment.get(_VISIBLE, "").split(",") if one]
    number = int(index or 0)
    if visible and number >= len(visible):
        return device  # which is then refused
    environment[_VISIBLE] = visible[number] if visible else str(number)
    return kind


def _environment() -> MutableMapping[str, str]:
    return os.environ  # noqa: TID251 - libraries and torchrun take and give settings no other way
