"""Settings of `[auth]`: who may call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.settings_loader import key


@dataclass(frozen=True, kw_only=True)
class JwtSettings:
    """`[auth.jwt]`: signed tokens of an identity provider (OpenID Connect)."""

    issuer: str = ""
    """Who signs them: `iss` of every token. Empty: none are taken."""
    audience: str = ""
    """Whom they are for: `aud` of every token."""
    jwks_file: Path | None = None
    """The provider's keys (JSON Web Key Set) in a file, which is read again when it changes."""
    jwks_url: str = ""
    """Where the provider tells its keys, in place of a file: https, or http on this machine.
    Neither: `<issuer>/.well-known/openid-configuration` is asked."""
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = ("RS256", "ES256", "EdDSA")
    """Signatures that are taken."""
    leeway_s: float = key(30.0, minimum=0, maximum=600)
    """By how much the clocks of both sides may differ."""
    cache_s: float = key(300.0, minimum=10)
    """How long keys of a URL are taken for new. A token with an unknown key has them fetched at
    once, every ten seconds at most."""
    roles_claim: str = "roles"
    """Claim that says what a user may do: a text or a list. Dots lead into objects:
    `realm_access.roles`."""
    role_map: tuple[str, ...] = ()
    """Roles by values of that claim, each as `value=role`. Empty: values are names of roles."""
    tenants_claim: str = ""
    """Claim that lists a user's tenants. Empty: all are of `default`."""
    limits_claim: str = ""
    """Claim whose values choose a user's limits. Empty: `roles_claim`."""
    limits: tuple[str, ...] = ()
    """Limits by values of that claim, each as `value tokens_per_day=100000 concurrent_requests=4`,
    with the names of `[auth.mtls]`. Of several that fit, the most generous hold."""


@dataclass(frozen=True, kw_only=True)
class WorkloadSettings:
    """`[auth.mtls."<spiffe-id>"]`: whom a client certificate stands for. The ID may end in `*`."""

    roles: tuple[Literal["user", "model_manager", "trainer", "admin", "superadmin"], ...]
    """What it may do."""
    tenants: tuple[str, ...] = ()
    """Tenants whose collections and prompts it reaches; `*` is every one. Default: `default`."""
    allowed_models: tuple[str, ...] = ()
    """Models that it may use, by ID or alias; a trailing `*` stands for any end. Default: all."""
    requests_per_minute: int | None = key(None, minimum=0)
    """Most requests a minute. 0: as many as it likes. Default: what `[api]` says."""
    tokens_per_minute: int | None = key(None, minimum=0)
    """Most tokens a minute, likewise."""
    concurrent_requests: int | None = key(None, minimum=0)
    """Most requests at once. 0: as many as it likes. Default: what `[limits]` says."""
    tokens_per_day: int | None = key(None, minimum=0)
    """Most tokens a day (UTC), likewise."""
    tokens_per_month: int | None = key(None, minimum=0)
    """Most tokens a calendar month (UTC), likewise."""


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """`[auth]`: who may call."""

    token_file: Path = Path()
    """Tokens as SHA-256 with roles. Default: `<data_dir>/tokens.json`."""
    api_tokens: tuple[str, ...] = key((), secret=True, env="API_TOKENS", env_only=True)
    """Keys of users. Only as the variable `API_TOKENS`."""
    service_token: str = key("", secret=True, env="PENSTOCK_SERVICE_TOKEN", env_only=True)
    """Token of calls between services; each needs the same one. Only as
    `PENSTOCK_SERVICE_TOKEN`."""
    jwt: JwtSettings = field(default_factory=JwtSettings)
    """Signed tokens of an identity provider."""
    mtls: Mapping[str, WorkloadSettings] = field(default_factory=dict[str, WorkloadSettings])
    """Workloads that prove who they are by a client certificate, by SPIFFE ID. Needs `client_ca`
    of `[tls]`. As a variable: JSON."""
