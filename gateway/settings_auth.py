"""Settings of who may call."""

from dataclasses import dataclass, field

from gateway.settings_values import SettingsError
from policy.oidc import JwtRules, JwtSettingsError, JwtVerifier


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """`[auth]`: where tokens come from, beside `API_TOKENS` and `[api].api_key`."""

    token_file: str = ""
    """JSON file of hashed tokens. Empty is `<data_dir>/tokens.json`."""
    jwt: JwtRules = field(default_factory=JwtRules)
    """`[auth.jwt]`: signed tokens of an identity provider (OpenID Connect). Without an issuer, none
    are taken."""


def jwt_of(settings: AuthSettings) -> JwtVerifier | None:
    """Returns what tells signed-in users; None where there are none. Raises `SettingsError`."""
    try:
        return JwtVerifier(settings.jwt) if settings.jwt.issuer else None
    except JwtSettingsError as error:
        raise SettingsError(f"auth.jwt.{error}") from None
