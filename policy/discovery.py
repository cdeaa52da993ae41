"""OpenID Connect Discovery: asks an identity provider where its keys are."""

import json
from typing import Any, cast

from policy.jwks import check_url, fetch_bytes

_PATH = "/.well-known/openid-configuration"


def discovery_url(issuer: str) -> str:
    """Returns where an issuer describes itself."""
    return issuer.rstrip("/") + _PATH


def discovered(issuer: str, url: str) -> bytes:
    """Fetches the key set that the description at a URL names.

    It is asked for each time, so that keys may move as well as rotate. Raises `OSError`, or
    `ValueError` where the description is not this issuer's, or leads to where no keys may come
    from.
    """
    try:
        document: Any = json.loads(fetch_bytes(url))
    except RecursionError:
        raise ValueError(f"{url} has no description of a provider") from None
    told = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if told.get("issuer") != issuer:
        raise ValueError(f"{url} describes the issuer {told.get('issuer')!r}, not {issuer!r}")
    keys = told.get("jwks_uri")
    if not isinstance(keys, str):
        raise ValueError(f"{url} has no jwks_uri")
    try:
        check_url(keys)
    except ValueError as error:
        raise ValueError(f"jwks_uri of {url}: {error}") from None
    return fetch_bytes(keys)
