"""Links from the IDs of results and checkpoints to their folders, by which they are served.

They are relative, for the folder of training may be mounted elsewhere on other machines.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from services.training.folder import job_folder, model_link


def link_result(root: Path, job_id: str, model_id: str) -> None:
    """Makes the link to a job's result, or makes it anew."""
    _link(root, model_id, job_folder(root, job_id).result)


def link_checkpoint(root: Path, job_id: str, step: int, model_id: str) -> None:
    """Makes the link to a checkpoint, or makes it anew."""
    _link(root, model_id, job_folder(root, job_id).checkpoint(step))


def unlink_model(root: Path, model_id: str) -> None:
    """Removes a link, if there is one."""
    model_link(root, model_id).unlink(missing_ok=True)


def _link(root: Path, model_id: str, folder: Path) -> None:
    link = model_link(root, model_id)
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(folder, link.parent)
    with suppress(OSError):
        if os.readlink(link) == target:
            return
    # Renamed into place: whoever follows it meanwhile finds the old or the new. No ID begins with a
    # dot, so that this is none.
    partial = link.with_name(f".{secrets.token_hex(8)}")
    partial.symlink_to(target)
    try:
        partial.replace(link)
    finally:
        partial.unlink(missing_ok=True)
