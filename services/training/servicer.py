"""TrainingService over gRPC: files and jobs."""

from services.training.file_servicer import FileServicer, Patience
from services.training.files import Files
from services.training.job_servicer import JobServicer
from services.training.jobs import Jobs
from services.training.watching import Watches


# `FileServicer.DownloadFile` writes its stream itself.
class TrainingServicer(FileServicer, JobServicer):  # pyright: ignore[reportIncompatibleMethodOverride]
    """Serves `penstock.training.v1.TrainingService`."""

    def __init__(self, files: Files, jobs: Jobs, watches: Watches, patience: Patience) -> None:
        FileServicer.__init__(self, files, patience)
        JobServicer.__init__(self, jobs, watches)
