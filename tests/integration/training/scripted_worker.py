"""A worker that trains nothing, and does what a script says: `scripted_worker.py FOLDER ATTEMPT`.

Lock, heartbeat, journal, orders, checkpoints and result are those of any worker, so that what looks
after workers can be tried without the minutes that models take. The script is `script.json` beside
the folder of the jobs; all of it is optional:

    steps, checkpoint_every, step_s    how much it does
    hold_at      step before which it waits until the file `go` is beside the script
    die_at       step by attempt, after which it is killed at once
    die_early    attempts that are killed before they say that they began
    silent_at    step by attempt, after which it doesn't beat and does nothing any more
    deaf         attempts that don't obey
    ends         attempts that end so, instead of well: the fields of `Ended`
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from services.training.folder import (
    COMPLETE,
    Chosen,
    Ended,
    JobFolder,
    Metrics,
    Order,
    Progress,
    Saved,
    Started,
)
from services.training.journal import Journal, beat, read_order, worker_lock

TOKENS_PER_STEP = 10


def script_of(folder: JobFolder) -> dict[str, Any]:
    file = folder.path.parent.parent / "script.json"
    return json.loads(file.read_text()) if file.exists() else {}


class Worker:
    def __init__(self, folder: JobFolder, attempt: int) -> None:
        self.folder = folder
        self.attempt = attempt
        self.script = script_of(folder)
        self.journal = Journal(folder.journal)
        self.silent = threading.Event()
        self.step = 0

    def of_attempt(self, name: str) -> Any:
        return self.script.get(name, {}).get(str(self.attempt))

    def run(self) -> None:
        threading.Thread(target=self.beat, daemon=True).start()
        self.journal.write(Started(time.time(), self.attempt, os.getpid()))
        self.step = self.resumed()
        steps = self.script.get("steps", 6)
        self.journal.write(
            Chosen(time.time(), steps, 1, 2, 0.5, 0.0, 0.0, 64, "Nothing is learnt.")
        )
        ends = self.of_attempt("ends")
        if ends is not None:
            self.end(**ends)
            return
        while self.step < steps:
            if self.obey():
                return
            self.train(steps)
        self.folder.result.mkdir(exist_ok=True)
        (self.folder.result / "adapter_config.json").write_text("{}")
        tokens = steps * TOKENS_PER_STEP
        self.end("succeeded", step=steps, trained_token_count=tokens)

    def beat(self) -> None:
        while not self.silent.is_set():
            beat(self.folder.heartbeat)
            time.sleep(0.05)

    def resumed(self) -> int:
        found = (path.parent.name for path in self.folder.checkpoints.glob(f"step-*/{COMPLETE}"))
        return max((int(name.removeprefix("step-")) for name in found), default=0)

    def obey(self) -> bool:
        """Does what the order says; tells whether that was to end."""
        if self.attempt in self.script.get("deaf", []):
            return False
        order = read_order(self.folder.order)
        if order is Order.PAUSE:
            self.save()
            self.end("paused", step=self.step)
        elif order is Order.CANCEL:
            self.end("cancelled", step=self.step)
        return order is not Order.RUN

    def train(self, steps: int) -> None:
        go = self.folder.path.parent.parent / "go"
        if self.step + 1 == self.script.get("hold_at") and not go.exists():
            time.sleep(0.01)
            return
        time.sleep(self.script.get("step_s", 0.0))
        self.step += 1
        epoch = self.step / steps
        self.journal.write(Metrics(time.time(), self.step, epoch, {"train_loss": 1 / self.step}))
        self.journal.write(Progress(time.time(), self.step, epoch, float(steps - self.step)))
        if self.step % self.script.get("checkpoint_every", 2) == 0:
            self.save()
        if self.of_attempt("die_at") == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.of_attempt("silent_at") == self.step:
            self.silent.set()
            time.sleep(3600)

    def save(self) -> None:
        path = self.folder.checkpoint(self.step)
        if self.step == 0 or (path / COMPLETE).exists():
            return
        path.mkdir(parents=True, exist_ok=True)
        (path / COMPLETE).touch()
        self.journal.write(Saved(time.time(), self.step, 0.0, {"train_loss": 1 / self.step}, 1))

    def end(self, outcome: str, **facts: Any) -> None:
        self.journal.write(Ended(time.time(), self.attempt, outcome, **facts))
        self.journal.close()


def main(path: str, attempt: int) -> None:
    folder = JobFolder(Path(path))
    if attempt in script_of(folder).get("die_early", []):
        sys.exit(3)
    with worker_lock(folder.lock, attempt) as mine:
        if mine:
            Worker(folder, attempt).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
