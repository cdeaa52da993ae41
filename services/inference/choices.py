"""One choice: turns the tokens of its sequence into text, tool calls and their events."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.engine import EndReason, TextDecoder, Token
from services.inference.events import (
    AnyEvent,
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TokenLogprob,
    ToolDelta,
)
from services.inference.identifiers import unique
from services.inference.scoring import Scorer
from services.inference.stops import StopFilter
from services.inference.thoughts import ThoughtReader
from services.inference.toolcalls import CallArguments, CallEnd, CallStart, Piece, ToolParser


@dataclass(slots=True)
class _Pending:
    """A token whose text has not gone out: it spans characters [start, end) of the raw text."""

    start: int
    end: int
    token_id: int
    logprob: TokenLogprob | None


class Choice:
    """State of one choice.

    A token is reported with the delta in which the last of its text goes out. A token without text
    of its own (part of a character) goes with the text that follows it. Tokens of which a stop text
    leaves nothing visible are not reported, nor are those of a thought.
    """

    def __init__(
        self,
        index: int,
        decoder: TextDecoder,
        *,
        thoughts: ThoughtReader | None = None,
        stops: StopFilter | None = None,
        tools: ToolParser | None = None,
        scorer: Scorer | None = None,
        single_call: bool = False,
    ) -> None:
        self.index = index
        self.ended = False
        self.token_count = 0
        """Tokens generated so far."""
        self.reasoning_tokens = 0
        """Those among them that are no part of the answer."""
        self.logprob_sum = 0.0
        self.cached_tokens = 0
        """Prompt tokens that need not be computed."""
        self._decoder = decoder
        self._thoughts = thoughts
        self._undecided: list[tuple[Token, str]] = []
        self._stops = stops
        self._tools = tools
        self._scorer = scorer
        self._single_call = single_call
        self._plain = stops is None and tools is None and scorer is None
        self._waiting: list[int] = []
        self._pending: deque[_Pending] = deque()
        self._decoded = 0
        self._passed = 0
        self._call_count = 0
        self._calls_over = False

    @property
    def mean_logprob(self) -> float:
        """Rank among the choices of `best_of`."""
        return self.logprob_sum / self.token_count if self.token_count else 0.0

    def feed(self, token: Token, out: list[AnyEvent]) -> bool:
        """Takes the next token. Returns True when the choice has ended by it."""
        self.token_count += 1
        text = self._decoder.feed(token.token_id)
        if token.score is not None:
            self.logprob_sum += token.score.logprob
        if self._thoughts is not None:
            return self._feed_thought(self._thoughts, token, text, out)
        return self._feed_answer(token, text, out)

    def _feed_thought(
        self, thoughts: ThoughtReader, token: Token, text: str, out: list[AnyEvent]
    ) -> bool:
        thought, answer = thoughts.feed(text)
        if thought:
            out.append(ReasoningDelta(self.index, thought))
        self._undecided.append((token, text))
        if thoughts.undecided:
            return False
        if not thoughts.found:
            return self._answer_undecided(out)
        if thoughts.over:
            self._undecided.pop()
            # A token without text of its own is part of the character that comes.
            self._think(keep_textless=True)
            self._undecided.append((token, answer))
            return self._answer_undecided(out)
        self._think(keep_textless=thoughts.ended and not text)
        return False

    def _think(self, *, keep_textless: bool) -> None:
        """Counts tokens of a thought."""
        kept = [held for held in self._undecided if keep_textless and not held[1]]
        self.reasoning_tokens += len(self._undecided) - len(kept)
        self._undecided = kept

    def _answer_undecided(self, out: list[AnyEvent]) -> bool:
        """Thinking is over: what is held belongs to the answer."""
        self._thoughts = None
        return any(self._feed_answer(token, text, out) for token, text in self._undecided)

    def _end_thought(self, thoughts: ThoughtReader, text: str, out: list[AnyEvent]) -> str:
        """Ends a thought with the last text; returns what of that is the answer's."""
        thought, answer = thoughts.feed(text)
        rest, _ = thoughts.flush()
        if thought or rest:
            out.append(ReasoningDelta(self.index, thought + rest))
        if thoughts.found:
            self._think(keep_textless=bool(answer))
            text = answer
        self._answer_undecided(out)
        return text

    def _feed_answer(self, token: Token, text: str, out: list[AnyEvent]) -> bool:
        if not self._plain:
            return self._feed_filtered(token, text, out)
        if not text:
            self._waiting.append(token.token_id)
        elif self._waiting:
            out.append(Delta(self.index, text, (*self._waiting, token.token_id)))
            self._waiting.clear()
        else:
            out.append(Delta(self.index, text, (token.token_id,)))
        return False

    def end(self, reason: EndReason, out: list[AnyEvent]) -> None:
        """Takes the end of the sequence."""
        if reason is not EndReason.LENGTH:
            self.token_count += 1
        text = self._decoder.flush()
        if self._thoughts is not None:
            text = self._end_thought(self._thoughts, text, out)
            if self.ended:
                return
        if self._plain:
            if text or self._waiting:
                out.append(Delta(self.index, text, tuple(self._waiting)))
            self._finish(_REASONS[reason], out)
            return
        self._decoded += len(text)
        if self._stops is not None:
            text = self._stops.feed(text)
            if not self._stops.found:
                text += self._stops.flush()
        self._passed += len(text)
        stopped = self._stops is not None and bool(self._stops.found)
        self._last(text, FinishReason.STOP if stopped else _REASONS[reason], out)

    def _feed_filtered(self, token: Token, text: str, out: list[AnyEvent]) -> bool:
        self._track(token, len(text))
        if self._stops is not None:
            text = self._stops.feed(text)
        self._passed += len(text)
        if self._stops is not None and self._stops.found:
            self._last(text, FinishReason.STOP, out)
            return True
        if self._tools is None:
            self._report((text,) if text else (), self._passed, out)
            return False
        pieces = self._tools.feed(text)
        self._report(pieces, self._passed - self._tools.held_length, out)
        if self._calls_over:
            self._finish(FinishReason.STOP, out)
        return self._calls_over

    def _track(self, token: Token, length: int) -> None:
        logprob = None
        if self._scorer is not None and token.score is not None:
            logprob = self._scorer(token.score)
        start = self._decoded
        self._decoded += length
        end = self._decoded if length else start + 1
        self._pending.append(_Pending(start, end, token.token_id, logprob))

    def _last(self, text: str, reason: FinishReason, out: list[AnyEvent]) -> None:
        """Reports the last of the text, with every token of which some is visible."""
        pieces: list[Piece] = [text] if text else []
        if self._tools is not None:
            pieces = [*self._tools.feed(text), *self._tools.flush()]
        if self._stops is not None and self._stops.found:
            while self._pending and self._pending[-1].start >= self._passed:
                self._pending.pop()
        self._report(pieces, None, out)
        self._finish(reason, out)

    def _report(self, pieces: Sequence[Piece], visible: int | None, out: list[AnyEvent]) -> None:
        """Emits pieces, with the tokens up to the character `visible` (None: all)."""
        token_ids: list[int] = []
        logprobs: list[TokenLogprob] = []
        if pieces or visible is None or self._scorer is not None:
            pending = self._pending
            while pending and (visible is None or pending[0].end <= visible):
                taken = pending.popleft()
                token_ids.append(taken.token_id)
                if taken.logprob is not None:
                    logprobs.append(taken.logprob)
        tokens, scores = tuple(token_ids), tuple(logprobs)
        for piece in pieces:
            if isinstance(piece, str):
                out.append(Delta(self.index, piece, tokens, scores))
                tokens, scores = (), ()
            elif not self._calls_over:
                self._report_call(piece, out)
        if scores or (tokens and self._tools is None):
            out.append(Delta(self.index, "", tokens, scores))

    def _report_call(self, piece: CallStart | CallArguments | CallEnd, out: list[AnyEvent]) -> None:
        match piece:
            case CallStart():
                self._call_count += 1
                id = unique("call_")
                out.append(ToolDelta(self.index, self._call_count - 1, id, piece.name))
            case CallArguments():
                call = self._call_count - 1
                out.append(ToolDelta(self.index, call, arguments_json=piece.text))
            case CallEnd():
                self._calls_over = self._single_call

    def _finish(self, reason: FinishReason, out: list[AnyEvent]) -> None:
        self.ended = True
        found = self._stops.found if self._stops is not None else ""
        if self._call_count and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        out.append(Finished(self.index, reason, found))


_REASONS = {
    EndReason.EOS: FinishReason.STOP,
    EndReason.STOP_TOKEN: FinishReason.STOP,
    EndReason.LENGTH: FinishReason.LENGTH,
}
