"""Signed-in users: whom a JSON Web Token of an identity provider (OpenID Connect) stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from policy.discovery import discovered, discovery_url
from policy.jwks import FileKeys, KeySource, UrlKeys, check_url
from policy.principals import Principal, Role, is_tenant
from policy.signed_in_limits import limits_for, parse_limits

if TYPE_CHECKING:
    import jwt

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Signatures that can be taken. Secrets that are shared with the provider can't, nor `none`."""

PREFIX = "jwt:"
"""How IDs of signed-in users begin."""

_LONGEST_TOKEN = 16 * 1024
_LONGEST_ID = 200
_MOST_TRIED = 8
_NAMES = ("name", "preferred_username", "email")


class JwtSettingsError(ValueError):
    """A setting of `[auth.jwt]` makes no sense. The message begins with its key."""


@dataclass(frozen=True)
class JwtRules:
    """Which tokens are taken, and what they give: the keys of `[auth.jwt]`."""

    issuer: str = ""
    """`iss` of every token."""
    audience: str = ""
    """`aud` of every token, alone or among others."""
    jwks_file: str = ""
    """The provider's keys in a file."""
    jwks_url: str = ""
    """Where the provider tells its keys. Empty, and no file: it is asked where."""
    algorithms: Sequence[str] = ALGORITHMS
    """Signatures that are taken."""
    leeway_s: float = 30.0
    """By how much the clocks of both sides may differ."""
    cache_s: float = 300.0
    """How long fetched keys are taken for new."""
    roles_claim: str = "roles"
    """Claim that says what a user may do; dots lead into objects."""
    role_map: Sequence[str] = ()
    """Roles by values of that claim, each as `value=role`. Empty: values are names of roles."""
    tenants_claim: str = ""
    """Claim that lists tenants. Empty: all users are of `default`."""
    limits_claim: str = ""
    """Claim that chooses limits. Empty: that of roles."""
    limits: Sequence[str] = ()
    """Limits by values of that claim, each as `value limit=number`; of several, the most generous
    hold."""


def parse_role_map(entries: Sequence[str]) -> dict[str, Role]:
    """Reads `value=role`, one or more of them. Raises `JwtSettingsError`."""
    roles: dict[str, Role] = {}
    for entry in entries:
        value, equals, name = entry.rpartition("=")
        if not equals or not value or name not in _given():
            raise JwtSettingsError(
                f"role_map: {entry!r} is not like 'value=role'; roles are {', '.join(_given())}"
            )
        if value in roles and roles[value] != name:
            raise JwtSettingsError(f"role_map: {value!r} has two roles")
        roles[value] = Role(name)
    return roles


def _given() -> list[str]:
    """What a token may give: services prove who they are by their own token."""
    return [role.value for role in Role if role is not Role.SERVICE]


class JwtVerifier:
    """Tells whose a token is."""

    def __init__(self, rules: JwtRules, keys: KeySource | None = None) -> None:
        """Takes the rules, and where keys come from unless the rules say it.

        Raises:
            JwtSettingsError: a rule makes no sense, or the file holds no keys.
        """
        import jwt  # takes a while: only who has such rules does it

        self._jwt = jwt
        for name in ("issuer", "audience"):
            if not getattr(rules, name):
                raise JwtSettingsError(f"{name}: it must be set, or everybody's tokens are good")
        unknown = sorted(set(rules.algorithms) - set(ALGORITHMS))
        if unknown or not rules.algorithms:
            raise JwtSettingsError(f"algorithms: there are {', '.join(ALGORITHMS)}")
        if not 0 <= rules.leeway_s <= 600:
            raise JwtSettingsError("leeway_s: must be from 0 to 600")
        if rules.cache_s < 10:
            raise JwtSettingsError("cache_s: must be at least 10")
        self._rules = rules
        self._role_map = parse_role_map(rules.role_map)
        try:
            self._limits = parse_limits(rules.limits)
        except ValueError as error:
            raise JwtSettingsError(f"limits: {error}") from None
        self._keys = keys or _source(rules)

    @property
    def known(self) -> bool:
        """Whether the provider's keys are known."""
        return self._keys.known

    def verify(self, token: str) -> Principal | None:
        """Returns whom a token stands for; None when it is wrong, or over.

        Raises:
            KeysWantedError: newer keys are to be fetched first.
        """
        if len(token) > _LONGEST_TOKEN:
            return None
        try:
            header = self._jwt.get_unverified_header(token)
        except self._jwt.PyJWTError:
            return None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._rules.algorithms:
            return None
        if kid is not None and not isinstance(kid, str):
            return None
        for key in self._keys.find(kid, algorithm)[:_MOST_TRIED]:
            claims = self._claims(token, key, algorithm)
            if claims is not None:
                return self._principal(claims)
        return None

    def _claims(self, token: str, key: "jwt.PyJWK", algorithm: str) -> dict[str, Any] | None:
        try:
            return self._jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=self._rules.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (self._jwt.PyJWTError, ValueError, TypeError, OverflowError):
            return None

    def _principal(self, claims: dict[str, Any]) -> Principal | None:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_ID:
            return None
        if not subject.isprintable():
            return None
        names = (claims.get(name) for name in _NAMES)
        name = next((n for n in names if isinstance(n, str) and n.isprintable() and n), subject)
        rules = self._rules
        tenants = _texts(claims, rules.tenants_claim) if rules.tenants_claim else ()
        return Principal(
            PREFIX + subject,
            name[:_LONGEST_ID],
            frozenset(self._roles(_texts(claims, rules.roles_claim))),
            tenants=tuple(dict.fromkeys(tenant for tenant in tenants if is_tenant(tenant))),
            expires_at=float(claims["exp"]),
            limits=limits_for(
                _texts(claims, rules.limits_claim or rules.roles_claim), self._limits
            ),
        )

    def _roles(self, values: Sequence[str]) -> list[Role]:
        if self._role_map:
            return [self._role_map[value] for value in values if value in self._role_map]
        return [Role(value) for value in values if value in _given()]


def _texts(claims: dict[str, Any], path: str) -> list[str]:
    """Returns the texts of a claim: one, several, or several in one text with blanks between."""
    value: object = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = cast("dict[str, object]", value).get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [item for item in cast("list[object]", value) if isinstance(item, str)]
    return []


def _source(rules: JwtRules) -> KeySource:
    if rules.jwks_url and rules.jwks_file:
        raise JwtSettingsError("jwks_file and jwks_url: name one of them, or neither")
    if not rules.jwks_file:
        named, url = ("jwks_url", rules.jwks_url) if rules.jwks_url else ("issuer", rules.issuer)
        try:
            check_url(url)
        except ValueError as error:
            raise JwtSettingsError(f"{named}: {error}") from None
        if rules.jwks_url:
            return UrlKeys(url, cache_s=rules.cache_s)
        asked = partial(discovered, rules.issuer)
        return UrlKeys(discovery_url(url), cache_s=rules.cache_s, fetch=asked)
    try:
        return FileKeys(Path(rules.jwks_file))
    except (OSError, ValueError) as error:
        raise JwtSettingsError(f"jwks_file: {rules.jwks_file} can't be read: {error}") from None
