"""API keys as they are kept."""

from dataclasses import dataclass, field
from datetime import datetime

from policy.principals import Limits, Principal, Role
from policy.scram import parse_verifier
from policy.tokens import Token


@dataclass(frozen=True, slots=True)
class Key:
    """A key: what it allows, and what its secret is known by."""

    id: str
    """`key_` and 12 characters."""
    sha256: str
    """SHA-256 of the secret, in hex."""
    display_name: str
    roles: tuple[Role, ...]
    create_time: datetime
    allowed_models: tuple[str, ...] = ()
    """Empty is every model."""
    limits: Limits = field(default_factory=Limits)
    tenants: tuple[str, ...] = ()
    """Empty is `default`."""
    gel_user: str = ""
    scram_verifier: str = field(default="", repr=False)
    expire_time: datetime | None = None
    version: int = 1
    """Grows with every change."""

    def token(self) -> Token:
        """Returns the key as it is checked."""
        principal = Principal(
            self.id,
            self.display_name,
            frozenset(self.roles),
            tenants=self.tenants,
            expires_at=None if self.expire_time is None else self.expire_time.timestamp(),
            gel_user=self.gel_user,
            limits=self.limits,
            allowed_models=self.allowed_models,
        )
        verifier = parse_verifier(self.scram_verifier) if self.scram_verifier else None
        return Token(self.sha256, principal, verifier=verifier)


@dataclass(frozen=True, slots=True)
class KeyChanges:
    """What became of the keys since a sequence."""

    sequence: int
    """Of the last change."""
    keys: tuple[Key, ...]
    """Keys that are new or changed; all keys where `whole`."""
    gone: tuple[str, ...] = ()
    """IDs of keys that were revoked."""
    whole: bool = False
    """Whether this is everything, and replaces what was known."""
