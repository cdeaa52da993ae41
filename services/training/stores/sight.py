"""What callers see of files, jobs and batches, and which files are needed."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, or_, select, true

from services.training.batch_records import BATCH_ENDED
from services.training.job_records import ENDED
from services.training.stores.tables import BATCHES, FILES, JOBS, KEPT

_FILE = FILES.c
_JOB = JOBS.c
_BATCH = BATCHES.c

UNENDED: Final = _JOB.state.not_in(sorted(state.value for state in ENDED))
"""A job hasn't ended."""

UNENDED_BATCH: Final = _BATCH.state.not_in(sorted(state.value for state in BATCH_ENDED))
"""A batch hasn't ended."""

NEEDED: Final = or_(
    exists(
        select(_JOB.id)
        .where(UNENDED, or_(_JOB.training_file == _FILE.id, _JOB.validation_file == _FILE.id))
        .correlate(FILES)
    ),
    exists(select(_BATCH.id).where(UNENDED_BATCH, _BATCH.input_file == _FILE.id).correlate(FILES)),
)
"""A job or a batch that hasn't ended names a file: it is not removed, and doesn't expire."""


def seen_files(sees: str | None, now: datetime) -> ColumnElement[bool]:
    """The files that a caller sees."""
    lasts = or_(_FILE.expire_time.is_(None), _FILE.expire_time > now, NEEDED)
    there = and_(_FILE.state == KEPT, lasts)
    return there if sees is None else and_(there, _FILE.owner == sees)


def seen_jobs(sees: str | None) -> ColumnElement[bool]:
    """The jobs that a caller sees."""
    return true() if sees is None else _JOB.owner == sees


def seen_batches(sees: str | None) -> ColumnElement[bool]:
    """The batches that a caller sees."""
    return true() if sees is None else _BATCH.owner == sees
