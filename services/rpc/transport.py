"""Limits and keepalive of every connection, set once; and what both ends prove themselves with."""

from typing import Any

import grpc

from policy.pem_files import PemFiles, Pems

MAX_MESSAGE_BYTES = 65 * 1024 * 1024
"""Largest message: a body of 64 MiB, and room for what goes around it."""

_KEEPALIVE_MS = 30_000
_KEEPALIVE_TIMEOUT_MS = 10_000
_LOOKAHEAD_BYTES = 64 * 1024
_MAX_STREAMS = 4096
_MAX_METADATA_BYTES = 64 * 1024

Options = list[tuple[str, str | int]]


def _common(max_message_bytes: int) -> Options:
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Returns the options of a server."""
    return [
        *_common(max_message_bytes),
        # A stale server must not share the port unnoticed.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        # Clients ping as often as ours do, and somewhat more.
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 3),
    ]


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    """Returns the options of a client's channel."""
    return [
        *_common(max_message_bytes),
        # Without these, a reader that stops reading lets a million tokens pile up in flight.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
        # How long one attempt may take: a busy machine needs more than a moment to shake hands.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Calls fail at once while a channel waits to try again: that wait has to be short.
        ("grpc.max_reconnect_backoff_ms", 500),
        # Else a new channel begins with the failures of others that had the address.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def server_credentials(files: PemFiles) -> grpc.ServerCredentials:
    """Returns what a server proves itself with: what the files hold whenever somebody connects.

    With a `ca` among them, callers need a certificate. Raises `TlsFileError`.
    """
    first = files.read()

    def fetch() -> Any:  # None says that nothing is new, which grpc's types don't know
        news = files.news()
        return None if news is None else _configuration(news)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first), fetch, require_client_authentication=first.ca is not None
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pems.key or b"", pems.certificate or b"")], root_certificates=pems.ca
    )


def channel_credentials(pems: Pems) -> grpc.ChannelCredentials:
    """Returns what a channel checks servers with, and proves itself with where it has a key."""
    own = pems.certificate if pems.key is not None else None
    return grpc.ssl_channel_credentials(pems.ca, pems.key, own)
