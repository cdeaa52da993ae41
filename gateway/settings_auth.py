"""Settings of who may call."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.settings_values import SettingsError
from policy.oidc import (
    ALGORITHMS,
    JwtRules,
    JwtSettingsError,
    JwtVerifier,
    parse_role_map,
)


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """`[auth.jwt]`: signed tokens of an identity provider (OpenID Connect)."""

    issuer: str = ""
    """`iss` of every token. Empty: none are taken."""
    audience: str = ""
    """`aud` of every token."""
    jwks_file: str = ""
    """The provider's keys in a file."""
    jwks_url: str = ""
    """Where the provider tells its keys, in place of a file. Neither: the issuer is asked."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Signatures that are taken."""
    leeway_s: float = 30.0
    """By how much the clocks of both sides may differ."""
    cache_s: float = 300.0
    """How long keys of a URL are taken for new."""
    roles_claim: str = "roles"
    """Claim that says what a user may do."""
    role_map: tuple[str, ...] = ()
    """Roles by values of that claim, each as `value=role`."""
    tenants_claim: str = ""
    """Claim that lists a user's tenants."""
    limits_claim: str = ""
    """Claim that chooses a user's limits. Empty: that of roles."""
    limits: tuple[str, ...] = ()
    """Limits by values of that claim, each as `value limit=number`."""

    def verifier(self) -> JwtVerifier | None:
        """Returns what tells signed-in users; None where there are none.

        Raises:
            SettingsError: a value makes no sense.
        """
        if not self.issuer:
            return None
        if not 0 <= self.leeway_s <= 600:
            raise SettingsError("auth.jwt.leeway_s must be from 0 to 600")
        if self.cache_s < 10:
            raise SettingsError("auth.jwt.cache_s must be at least 10")
        try:
            return JwtVerifier(
                JwtRules(
                    issuer=self.issuer,
                    audience=self.audience,
                    jwks_file=Path(self.jwks_file) if self.jwks_file else None,
                    jwks_url=self.jwks_url,
                    algorithms=self.algorithms,
                    leeway_s=self.leeway_s,
                    cache_s=self.cache_s,
                    roles_claim=self.roles_claim,
                    role_map=parse_role_map(self.role_map),
                    tenants_claim=self.tenants_claim,
                    limits_claim=self.limits_claim,
                    limits=self.limits,
                )
            )
        except JwtSettingsError as error:
            raise SettingsError(f"auth.jwt.{error}") from None


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """`[auth]`: where tokens come from, beside `API_TOKENS` and `[api].api_key`."""

    token_file: str = ""
    """JSON file of hashed tokens. Empty is `<data_dir>/tokens.json`."""
    jwt: JwtSettings = field(default_factory=JwtSettings)
    """Signed tokens of an identity provider."""
