"""Log-probabilities of tokens, with their texts and exact bytes."""

from services.inference.engine import TextCodec, TokenScore
from services.inference.events import TokenLogprob


class Scorer:
    """Makes reports of token scores; remembers pieces, since alternatives repeat."""

    def __init__(self, text: TextCodec) -> None:
        self._text = text
        self._pieces: dict[int, tuple[str, bytes]] = {}

    def __call__(self, score: TokenScore) -> TokenLogprob:
        """Reports a token and its alternatives."""
        token, piece = self._piece(score.token_id)
        top = tuple(self._entry(token_id, logprob) for token_id, logprob in score.top)
        return TokenLogprob(token, score.token_id, score.logprob, piece, top)

    def unscored(self, token_id: int) -> TokenLogprob:
        """Reports the first token of a prompt, which nothing precedes."""
        token, piece = self._piece(token_id)
        return TokenLogprob(token, token_id, None, piece)

    def _entry(self, token_id: int, logprob: float) -> TokenLogprob:
        token, piece = self._piece(token_id)
        return TokenLogprob(token, token_id, logprob, piece)

    def _piece(self, token_id: int) -> tuple[str, bytes]:
        known = self._pieces.get(token_id)
        if known is None:
            piece = self._text.piece(token_id)
            known = self._pieces[token_id] = (piece.decode("utf-8", "replace"), piece)
        return known
