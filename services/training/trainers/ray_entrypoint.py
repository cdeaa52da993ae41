"""The command that Ray runs for a job: the same worker as anywhere, in the folder of the job."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.training.folder import JobFolder
from services.training.trainers.ray_ends import FOLDER_MISSING

_LOG_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How the nodes of the cluster run the worker."""

    python: str = "python"
    """Runs Python with Penstock."""
    worker: Sequence[str] = ("-m", "services.training.worker")
    """What it runs; folder and attempt are added."""
    processes: int = 1
    """How many train together, on one node."""

    def arguments(self, folder: Path, attempt: int) -> list[str]:
        """The command with its arguments."""
        launcher: list[str] = []
        if self.processes > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone"]
            launcher += ["--nproc-per-node", str(self.processes)]
        return [self.python, *launcher, *self.worker, str(folder), str(attempt)]


def wanted_file(folder: Path) -> Path:
    """The file that holds the ID of the submission that may run on a folder. Ray can't take back
    one that waits for room: this is what keeps it from training when its turn comes."""
    return folder / "ray.submission"


def entrypoint(command: WorkerCommand, folder: Path, attempt: int, submission_id: str) -> str:
    """The command for a shell. It becomes the worker, whose end is then that of the submission."""
    folder = folder.absolute()
    place = JobFolder(folder)
    marker = _marker(submission_id)
    wanted, log = shlex.quote(str(wanted_file(folder))), shlex.quote(str(place.log))
    # The shell's own folder must not decide what is imported.
    worker = shlex.join(["env", "PYTHONSAFEPATH=1", *command.arguments(folder, attempt)])
    return "\n".join(
        [
            f"if ! [ -d {shlex.quote(str(folder))} ]; then",
            "  echo 'The training folder is not mounted here at the same path.'",
            f"  exit {FOLDER_MISSING}",
            "fi",
            f'if [ "$(cat {wanted})" != {shlex.quote(submission_id)} ]; then',
            "  echo 'Another attempt took its place, or the job was stopped.'",
            "  exit 0",
            "fi",
            f"echo 'The worker writes to '{log}",
            f"echo {shlex.quote(marker)} >> {log}",
            f"exec {worker} >> {log} 2>&1",
        ]
    )


def log_of(folder: Path, submission_id: str) -> str:
    """The end of what the worker of a submission wrote; empty where there is nothing."""
    try:
        with JobFolder(folder).log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    _, found, own = text.rpartition(_marker(submission_id))
    return own if found else ""


def _marker(submission_id: str) -> str:
    return f"--- {submission_id} in Ray"
