"""Renders a streamed completion in llama.cpp's form: state, no I/O."""

from collections.abc import Sequence
from typing import Any

import msgspec
from penstock.inference.v1 import event_pb2, usage_pb2

from gateway.dialects.velesio.frames import MOST_BYTES, llama_error, llama_frame, portions
from gateway.dialects.velesio.llama_answers import SLOT, probabilities, selected, stop_type
from gateway.errors import Problem

_EVERYWHERE = {"id_slot": SLOT, "slot_id": SLOT, "multimodal": False}
_SCORES = "completion_probabilities"
_LONGEST_WORD = 512
"""Of the text that ended the answer, in the last frame."""


class LlamaStream:
    """One stream. `[DONE]` never ends it: LLM for Unity 2 reads the whole of it as JSON."""

    def __init__(
        self,
        *,
        prompt_tokens: Sequence[int | None] = (None,),
        scored: bool = False,
        fields: Sequence[str] | None = None,
    ) -> None:
        """`prompt_tokens` has an entry for every prompt: the usage tells only the sum of them."""
        self.finished = False
        self._prompt_tokens = prompt_tokens
        self._scored = scored
        self._fields = fields
        self._counts = [0] * len(prompt_tokens)
        self._ends: list[event_pb2.Finished] = []

    def feed(self, event: event_pb2.CompleteEvent, /) -> Sequence[bytes]:
        """Makes the frames of an event."""
        match event.WhichOneof("event"):
            case "delta":
                return self._delta(event.delta)
            case "finished":
                # How many tokens there were is known with the end of all.
                self._ends.append(event.finished)
                return ()
            case "done":
                self.finished = True
                return [self._end(finished, event.done.usage) for finished in self._ends]
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure."""
        self.finished = True
        return llama_error(problem)

    def _delta(self, delta: event_pb2.Delta) -> Sequence[bytes]:
        self._counts[delta.index] += len(delta.token_ids)
        bodies = [
            self._body(delta.index, text, tokens)
            for text, tokens in portions(delta.text, list(delta.token_ids))
        ]
        if not self._scored:
            return [llama_frame(body) for body in bodies]
        scores: list[Any] = msgspec.to_builtins(probabilities(delta.logprobs))
        if len(bodies) <= 1:
            whole = self._body(delta.index, delta.text, list(delta.token_ids))
            frame = llama_frame({**whole, _SCORES: scores})
            if len(frame) < MOST_BYTES:
                return [frame] if bodies or scores else ()
        # Each in a frame of its own, for none may be long.
        bodies += [{**self._body(delta.index, "", []), _SCORES: [score]} for score in scores]
        return [llama_frame(body) for body in bodies]

    def _body(self, index: int, text: str, tokens: list[int]) -> dict[str, Any]:
        return {
            "content": text,
            "tokens": tokens,
            "stop": False,
            **_EVERYWHERE,
            **self._place(index),
        }

    def _end(self, finished: event_pb2.Finished, usage: usage_pb2.Usage) -> bytes:
        kind = stop_type(finished.reason, finished.stop_sequence)
        evaluated = self._prompt_tokens[finished.index]
        predicted = usage.completion_tokens
        if len(self._prompt_tokens) > 1:
            predicted = self._counts[finished.index] + (kind == "eos")
        body: dict[str, Any] = {
            "content": "",
            "tokens": [],
            "stop": True,
            **_EVERYWHERE,
            "stop_type": kind,
            "stopping_word": finished.stop_sequence[:_LONGEST_WORD],
            "tokens_predicted": predicted,
            "tokens_evaluated": usage.prompt_tokens if evaluated is None else evaluated,
            "truncated": False,
            **self._place(finished.index),
        }
        return llama_frame(selected(body, self._fields))

    def _place(self, index: int) -> dict[str, int]:
        return {"index": index} if len(self._prompt_tokens) > 1 else {}
