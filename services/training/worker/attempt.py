"""One life of a worker: from the first record in the journal to the last. No torch."""

import sys
import time
import traceback
from contextlib import suppress

from services.training.folder import Ended, JobFolder, Plan, Started
from services.training.journal import Journal
from services.training.worker.checkpoints import (
    Checkpoints,
    Summary,
    finished,
    free_reserve,
    keep_reserve,
)
from services.training.worker.failures import (
    Cancelled,
    Evicted,
    Failure,
    Paused,
    describe,
    is_disk_full,
)
from services.training.worker.reporting import Reporter
from services.training.worker.watch import Watch, heartbeat


def run(folder: JobFolder, plan: Plan, attempt: int, pid: int) -> bool:
    """Trains, or goes on, and tells the journal how it ended.

    Returns:
        Whether the journal tells how; False where the machine wanted the process to end.
    """
    watch = Watch(folder.order)
    watch.catch_signals()
    journal = Journal(folder.journal)
    reporter = Reporter(journal, folder.journal)
    with heartbeat(folder):
        try:
            reporter.write(Started(time.time(), attempt, pid))
            keep_reserve(folder)
            summary = _train(folder, plan, watch, reporter)
        except Evicted:
            return False
        except Paused:
            ended = Ended(time.time(), attempt, "paused", step=reporter.step)
        except Cancelled:
            ended = Ended(time.time(), attempt, "cancelled", step=reporter.step)
        except BaseException as error:  # whatever it was, the job's owner is told
            traceback.print_exc()
            ended = _failed(attempt, reporter.step, describe(error))
            if is_disk_full(error):
                with suppress(OSError):
                    Checkpoints(folder).clean()
        else:
            ended = Ended(
                time.time(),
                attempt,
                "succeeded",
                step=summary.step,
                trained_token_count=summary.trained_token_count,
            )
        free_reserve(folder)
        journal.write(ended)
        journal.close()
    return True


def follow(folder: JobFolder, plan: Plan) -> None:
    """Trains beside the first rank, which alone locks, tells and saves."""
    _train(folder, plan, Watch(folder.order), Reporter(None, folder.journal))


def _train(folder: JobFolder, plan: Plan, watch: Watch, reporter: Reporter) -> Summary:
    done = finished(folder)
    if done is not None:
        Checkpoints(folder).strip()
        return done
    watch.look()
    # Not before the heart beats and the journal tells that the worker lives: this imports torch.
    from services.training.worker.training import train

    return train(folder, plan, watch, reporter)


def _failed(attempt: int, step: int, failure: Failure) -> Ended:
    print(f"The training failed: {failure.code}", file=sys.stderr)
    return Ended(
        time.time(),
        attempt,
        "failed",
        step=step,
        code=failure.code,
        message=failure.message,
        param=failure.param,
        transient=failure.transient,
    )
