from __future__ import annotations

import pytest

from services.training.trainers.ray_ends import FOLDER_MISSING, After, End, end_of
from services.training.trainers.ray_jobs import Status, Submission

KILLED_FOR_MEMORY = (
    "Job supervisor actor died: The actor died because its node has died or ran out of memory: "
    "1 worker(s) were killed due to the node running low on memory."
)
LOST_WITH_A_GUESS = "- The agent is killed by the OS (e.g., out of memory)."


def _failed(error: str | None = None, code: int | None = None, message: str = "") -> Submission:
    return Submission(Status.FAILED, "one", None, 1, message, error, code)


EXITED = "JOB_ENTRYPOINT_COMMAND_ERROR"
DIED = "JOB_SUPERVISOR_ACTOR_DIED"


@pytest.mark.parametrize(
    ("found", "log", "processes", "end"),
    [
        (Submission(Status.SUCCEEDED), "", 1, End("exited with 0")),
        (Submission(Status.STOPPED), "", 1, End("stopped")),
        (_failed(EXITED, 3), "", 1, End("exited with 3")),
        (_failed(EXITED, -9), "", 1, End("killed by signal 9")),
        (_failed(EXITED, -9), "", 2, End("killed by signal 9", after=After.PERHAPS_ALIVE)),
        (_failed(EXITED, 1), "", 2, End("exited with 1")),
        (_failed(EXITED, 1), "no MemoryErrorish word", 1, End("exited with 1")),
        (_failed(EXITED, 1), "MemoryError\n", 1, End("exited with 1", out_of_memory=True)),
        (
            _failed(EXITED, 1),
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            1,
            End("exited with 1", out_of_memory=True),
        ),
        (
            _failed(EXITED, FOLDER_MISSING),
            "",
            1,
            End("the training folder is not mounted on the Ray node at the same path"),
        ),
        (
            _failed("JOB_SUPERVISOR_ACTOR_START_TIMEOUT"),
            "",
            1,
            End("found no room in the Ray cluster", after=After.NEVER_RAN),
        ),
        (
            _failed("RUNTIME_ENV_SETUP_FAILURE"),
            "",
            1,
            End("Ray could not set up its environment"),
        ),
        (
            _failed("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"),
            "",
            1,
            End("no node of the Ray cluster may run it"),
        ),
        (
            _failed(DIED, None, KILLED_FOR_MEMORY),
            "",
            1,
            End("its Ray node ran out of memory", True, After.PERHAPS_ALIVE),
        ),
        (
            _failed(DIED, None, LOST_WITH_A_GUESS),
            "",
            1,
            End("Ray lost it, perhaps with its node", after=After.PERHAPS_ALIVE),
        ),
        *[
            (
                _failed(error),
                "",
                1,
                End("Ray lost it, perhaps with its node", after=After.PERHAPS_ALIVE),
            )
            for error in (
                DIED,
                "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE",
                "A_FAILURE_OF_A_LATER_RAY",
                None,
            )
        ],
        *[
            (
                _failed(error),
                "",
                1,
                End(
                    "Ray could not start it, or lost it, perhaps with its node",
                    after=After.PERHAPS_ALIVE,
                ),
            )
            for error in (
                "JOB_SUPERVISOR_ACTOR_START_FAILURE",
                "JOB_ENTRYPOINT_COMMAND_START_ERROR",
            )
        ],
        (None, "", 1, End("the Ray cluster does not know it", after=After.PERHAPS_ALIVE)),
    ],
)
def test_how_a_submission_ended_tells_of_the_worker(
    found: Submission | None, log: str, processes: int, end: End
) -> None:
    assert end_of(found, log=log, processes=processes) == end
