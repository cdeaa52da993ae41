"""Whom a process takes for somebody beside those with keys: signed-in users, and workloads."""

from typing import Any

from policy.oidc import JwtRules, JwtSettingsError, JwtVerifier
from policy.principals import Limits, Role
from policy.workloads import Peers, Workload, Workloads
from services.settings import Settings, SettingsError


def jwt_of(settings: Settings) -> JwtVerifier | None:
    """Returns what tells signed-in users; None where there are none. Raises `SettingsError`."""
    given: dict[str, Any] = {**vars(settings.auth.jwt)}
    given["jwks_file"] = str(given["jwks_file"] or "")
    rules = JwtRules(**given)
    try:
        return JwtVerifier(rules) if rules.issuer else None
    except JwtSettingsError as error:
        raise SettingsError(f"[auth.jwt] {error}") from None


def workloads_of(settings: Settings) -> Workloads:
    """Returns the workloads that certificates stand for. Raises `SettingsError`."""
    given = settings.auth.mtls
    if given and settings.tls.client_ca is None:
        raise SettingsError("[auth.mtls] needs [tls] client_ca: without it, no certificate is seen")
    try:
        return Workloads(
            Workload(
                pattern,
                frozenset(Role(role) for role in one.roles),
                tenants=one.tenants,
                allowed_models=one.allowed_models,
                limits=Limits(**{name: getattr(one, name) for name in Limits.__slots__}),
            )
            for pattern, one in given.items()
        )
    except ValueError as error:
        raise SettingsError(f"[auth.mtls] {error}") from None


def peers_of(settings: Settings) -> Peers:
    """Returns whose certificates callers must have. Raises `SettingsError`."""
    if settings.tls.peers and settings.tls.client_ca is None:
        raise SettingsError("[tls] peers needs client_ca: without it, no certificate is seen")
    try:
        return Peers(settings.tls.peers)
    except ValueError as error:
        raise SettingsError(f"[tls] peers: {error}") from None
