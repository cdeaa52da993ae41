"""Answers browsers of other origins."""

from collections.abc import Mapping

from gateway.settings import ApiSettings

Headers = list[tuple[bytes, bytes]]

_METHODS = b"GET, POST, PUT, DELETE, OPTIONS"
_ALLOWED = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Request-Id",
    "X-Request-Timeout",
    "OpenAI-Organization",
    "OpenAI-Project",
    # OpenAI's own client sends it with vector stores.
    "OpenAI-Beta",
)
_FAMILIES = ("x-stainless-", "anthropic-")
"""Headers of SDKs in browsers begin so."""

_EXPOSED = ", ".join(
    (
        "x-request-id",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "openai-processing-ms",
        *(
            f"x-ratelimit-{what}-{of}"
            for of in ("requests", "tokens")
            for what in ("limit", "remaining", "reset")
        ),
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        *(
            f"anthropic-ratelimit-{of}-{what}"
            for of in ("requests", "tokens")
            for what in ("limit", "remaining", "reset")
        ),
    )
).encode()
_TRUSTED_S = b"600"


class Cors:
    """The origins that are answered."""

    def __init__(self, settings: ApiSettings) -> None:
        self._enabled = settings.cors_enabled
        self._all = "*" in settings.cors_origins
        self._origins = frozenset(origin.rstrip("/") for origin in settings.cors_origins)

    def headers(self, origin: str | None) -> Headers:
        """Headers of an answer to a page of an origin."""
        if not self._enabled or (self._all and origin is None):
            return []
        if self._all:
            allowed = b"*"
        elif origin is not None and origin in self._origins:
            allowed = origin.encode("latin-1")
        else:
            return [(b"vary", b"Origin")]
        headers = [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _EXPOSED),
        ]
        return headers if self._all else [*headers, (b"vary", b"Origin")]

    def preflight(self, method: str, headers: Mapping[str, str]) -> Headers | None:
        """Headers of the answer to a preflight; None when the request is none."""
        asked = method == "OPTIONS" and "access-control-request-method" in headers
        if not self._enabled or not asked or "origin" not in headers:
            return None
        wanted = headers.get("access-control-request-headers", "").split(",")
        extra = sorted(
            {
                name
                for name in (item.strip().lower() for item in wanted)
                if name.startswith(_FAMILIES) and name.replace("-", "").isalnum()
            }
        )
        return [
            (b"access-control-allow-methods", _METHODS),
            (
                b"access-control-allow-headers",
                ", ".join((*_ALLOWED, *extra)).encode("ascii", "ignore"),
            ),
            (b"access-control-max-age", _TRUSTED_S),
        ]
