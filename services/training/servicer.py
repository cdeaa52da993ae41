"""TrainingService over gRPC. So far it keeps files; it has no trainer yet."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from typing import NoReturn

from services.errors import Unsupported
from services.rpc.access import Role, requires
from services.training.callers import Context
from services.training.file_servicer import FileServicer


class TrainingServicer(FileServicer):
    """Serves `penstock.training.v1.TrainingService`."""

    @requires(Role.TRAINER)
    async def StartJob(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def GetJob(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def ListJobs(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def CancelJob(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def PauseJob(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def ResumeJob(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def ListEvents(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def WatchJob(  # pyright: ignore[reportIncompatibleMethodOverride]  (streams nothing yet)
        self, request: object, context: Context
    ) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()

    @requires(Role.TRAINER)
    async def ListCheckpoints(self, request: object, context: Context) -> NoReturn:
        """Is not served yet."""
        raise _not_yet()


def _not_yet() -> Unsupported:
    return Unsupported("This server keeps files, but can't train yet.")
