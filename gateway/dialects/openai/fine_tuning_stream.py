"""Renders the events of a job as they happen: data alone, and `[DONE]` when the job has ended."""

from collections.abc import Sequence

import msgspec
from penstock.training.v1 import training_service_pb2 as service_pb2

from gateway.dialects.openai.envelope import error_frame
from gateway.dialects.openai.fine_tuning_answers import event_object
from gateway.dialects.openai.fine_tuning_translate import respelled
from gateway.errors import Problem
from gateway.sse import DONE, frame


class JobEventStream:
    """One stream: state, no I/O."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._begun = False
        self.finished = False

    def feed(self, event: service_pb2.WatchJobEvent) -> Sequence[bytes]:
        """Makes the frames of what the service says."""
        match event.WhichOneof("event"):
            case "happened":
                return (frame(msgspec.json.encode(event_object(event.happened))),)
            case "finish":
                self.finished = True
                return (DONE,)
            case "job" if not self._begun:
                self._begun = True
                return (b"",)  # nothing to show, but there is such a job: the answer begins
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        self.finished = True
        return error_frame(respelled(problem, self._job_id))
