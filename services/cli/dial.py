"""Channels to services, secured as the settings say."""

from grpc import aio

from services.rpc.channels import ClientTls, channel
from services.settings import Settings


def dial(address: str, settings: Settings, token: str) -> aio.Channel:
    """Opens a channel whose calls carry the token. Needs a running event loop."""
    return channel(address, tls=_tls(settings), token=token)


def _tls(settings: Settings) -> ClientTls | None:
    if settings.tls.certificate is None:
        return None
    from services.rpc.process import client_tls  # brings the whole server along

    return client_tls(settings)
