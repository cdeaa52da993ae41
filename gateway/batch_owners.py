"""As whom requests of batches run: as the owner of the batch, while its key is good; owners without
a key, as what they were when they made it."""

from gateway.auth import Authenticator
from policy.principals import ANONYMOUS, Principal
from policy.standing import standing_of


class OwnerGoneError(Exception):
    """The key that made a batch is not good any more."""


class OwnerUnknownError(Exception):
    """Which keys there are is not known yet."""


class BatchOwners:
    """Stands in for keys whose secrets nobody keeps."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    @property
    def available(self) -> bool:
        """Whether it can stand in for anybody: that takes the service token."""
        return self._authenticator.sessions.available

    def may_own(self, owner: Principal) -> bool:
        """Tells whether requests can be run as somebody."""
        try:
            self.authorization(owner.id, standing_of(owner))
        except OwnerGoneError:
            return False
        except OwnerUnknownError:
            return True  # till they run, it will be
        return True

    def authorization(self, owner: str, standing: str = "") -> str | None:
        """Returns the `authorization` of requests that run as somebody; None for callers without
        a key, where none is needed. `standing` is what was kept of who has no key.

        Raises:
            OwnerGoneError: there is no good key of that ID, or too much to be kept of who has none.
            OwnerUnknownError: it may be known later.
        """
        authenticator = self._authenticator
        if owner == ANONYMOUS.id and not authenticator.required:
            return None
        if standing:
            session = authenticator.sessions.mint_standing(standing)
            if authenticator.sessions.find(session, authenticator.tokens.of_id) is None:
                raise OwnerGoneError(owner)  # they are more than a token may say
            return f"Bearer {session}"
        for token in authenticator.tokens.of_id(owner):
            session = authenticator.sessions.mint(owner, token.sha256)
            if authenticator.identify(session) is not None:
                return f"Bearer {session}"
        if authenticator.keys is not None and not authenticator.keys.known:
            raise OwnerUnknownError(owner)
        raise OwnerGoneError(owner)
