"""ResponseService in the process: from its settings to what is served, and its work beside that."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from penstock.inference.v1.response_service_pb2_grpc import add_ResponseServiceServicer_to_server

from services.errors import DomainError
from services.inference.response_servicer import ResponseServicer
from services.inference.response_stores import SqlResponses
from services.inference.responses import ResponseLimits, Responses, utc_now
from services.rpc.server import Registration
from services.settings import InferenceSettings, SettingsError

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def keeping_responses(settings: InferenceSettings) -> AsyncGenerator[Registration, None]:
    """Opens the store of responses, gives what serves it, and sweeps it until the end of the block.

    Generation needs no database: while one does not answer, only responses can't be kept.

    Raises:
        SettingsError: the database can't be used.
    """
    limits = ResponseLimits(
        lasts=timedelta(days=settings.response_days),
        most_responses=settings.max_conversation_responses,
        most_bytes=settings.max_conversation_bytes,
    )
    try:
        store = SqlResponses(settings.database_url, utc_now)
    except ValueError as error:
        raise _unusable(error) from error
    try:
        try:
            await store.prepare()
        except ValueError as error:
            raise _unusable(error) from error
        except DomainError as error:
            _logger.warning("responses can't be stored yet: %s", error.message)
        responses = Responses(store, limits)
        sweeping = asyncio.create_task(responses.keep_swept(settings.sweep_interval_s))
        try:
            yield Registration(add_ResponseServiceServicer_to_server, ResponseServicer(responses))
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
    finally:
        await store.close()


def _unusable(error: ValueError) -> SettingsError:
    return SettingsError(f"[services.inference] database_url: {error}")
