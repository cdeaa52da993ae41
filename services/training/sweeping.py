"""Sweeps from time to time, and tells whether that works."""

import asyncio
import logging
from collections.abc import Callable

from services.errors import DomainError
from services.training.files import Files

_log = logging.getLogger(__name__)
_RETRY_S = 5.0


async def keep_swept(
    files: Files, interval_s: float, *, tell: Callable[[bool], None] = lambda _: None
) -> None:
    """Sweeps until cancelled. Tells when that fails, and when it works again."""
    well = True
    while True:
        try:
            await files.sweep()
            works = True
        except DomainError as error:
            _log.warning("the files could not be swept: %s", error.message)
            works = False
        except Exception:
            # What nobody thought of must not end the loop.
            _log.exception("the files could not be swept")
            works = False
        if works != well:
            well = works
            tell(well)
        await asyncio.sleep(interval_s if works else min(interval_s, _RETRY_S))
