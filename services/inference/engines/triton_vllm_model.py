"""Generates text in Triton's python backend, by the contract of Triton's vLLM backend, on the torch
engine. `penstock triton export` copies it into a model repository as `1/model.py`, and the code
that it imports into `1/lib`.
"""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

sys.path.insert(0, str(Path(__file__).parent / "lib"))

import numpy as np
import triton_python_backend_utils  # pyright: ignore[reportMissingImports]  (Triton brings it)

from services.errors import InvalidArgument
from services.inference.engine import (
    Ended,
    EndReason,
    SamplingParams,
    SequenceRequest,
    TextCodec,
    Token,
    TokenScore,
)

if TYPE_CHECKING:
    from services.inference.engines.triton_model_host import Call

pb_utils: Any = triton_python_backend_utils

_RETURNS = ("finish_reason", "cumulative_logprob", "logprobs", "num_input_tokens")
_MAX_TOKENS = 16
"""vLLM's own default."""
_NUMBERS = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "min_tokens": int,
    "ignore_eos": bool,
}


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model; Triton calls this once."""
        # Not above: Triton starts a process that only looks at this file before the one that runs.
        from services.inference.engines.triton_model_host import Call, ModelHost

        self._call = Call
        self._host: ModelHost = ModelHost(pb_utils, args, Path(__file__).parent)

    def execute(self, requests: list[Any]) -> None:
        """Begins to answer requests."""
        self._host.begin(requests, self._read)

    def finalize(self) -> None:
        """Frees the device; Triton calls this at the end."""
        self._host.close()

    def _read(self, request: Any, sender: Any) -> "Call":
        text = _text(request, "text_input") or ""
        stream = _flag(request, "stream")
        exclude = _flag(request, "exclude_input_in_output")
        if exclude is False and stream:
            raise InvalidArgument(
                "When streaming, `exclude_input_in_output` = False is not allowed."
            )
        given = _given(_text(request, "sampling_parameters") or request.parameters() or "{}")
        adapter = str(given.pop("lora_name", None) or "")
        prompt = self._host.text.encode(text, add_special=True)
        params = _params(given)
        answers = Answers(
            self._host.text,
            prompt,
            params,
            returns=frozenset(
                name
                for name in (*_RETURNS, "num_output_tokens")
                if _flag(request, f"return_{name}")
            ),
            stream=bool(stream),
            before="" if stream or exclude else text,
        )
        return self._call(request, sender, SequenceRequest(prompt, params), answers.take, adapter)


class Answers:
    """What one request is answered."""

    def __init__(
        self,
        text: TextCodec,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        returns: frozenset[str],
        stream: bool,
        before: str,
    ) -> None:
        """Takes what was asked for; `before` goes in front of the text."""
        self._text = text
        self._decoder = text.decoder(prompt)
        self._prompt = prompt
        self._params = params
        self._returns = returns
        self._stream = stream
        self._words = before
        self._scores: list[TokenScore] = []
        self._count = 0
        self._total = 0.0
        self._ending: int | None = None

    def take(self, tokens: Sequence[Token], end: Ended | None) -> Any:
        """Takes a step; gives the answer that tells of it, None where that comes later."""
        for token in tokens:
            self._words += self._decoder.feed(token.token_id)
            if token.score is not None:
                self._scores.append(token.score)
                self._total += token.score.logprob
        self._count += len(tokens)
        if end is not None:
            self._words += self._decoder.flush()
            self._ending = self._ended_by(end.reason)
            self._count += self._ending is not None
        elif not self._stream:
            return None
        return self._answer(end)

    def _answer(self, end: Ended | None) -> Any:
        words, self._words = self._words, ""
        scores, self._scores = self._scores, []
        count, self._count = self._count, 0
        reason = "None"
        if end is not None:
            reason = "length" if end.reason is EndReason.LENGTH else "stop"
        listed = [self._told(one) for one in scores]
        if self._ending is not None:  # vLLM reports it, too; how probable it was, the engine keeps
            unknown = {"logprob": None, "rank": None, "decoded_token": ""}
            listed.append({str(self._ending): unknown})
        told = json.dumps(listed)
        values: dict[str, Any] = {
            "text_output": np.array([words.encode()], np.object_),
            "finish_reason": np.array([reason.encode()], np.object_),
            "cumulative_logprob": np.array([self._total], np.float32),
            "logprobs": np.array(
                [b"null" if self._params.logprobs is None else told.encode()], np.object_
            ),
            "num_input_tokens": np.array([len(self._prompt)], np.uint32),
            "num_output_tokens": np.array([count], np.uint32),
        }
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, value)
                for name, value in values.items()
                if name == "text_output" or name in self._returns
            ]
        )

    def _ended_by(self, reason: EndReason) -> int | None:
        """The token that ended it; with several stop tokens, one of them."""
        eos = self._text.encode(self._text.eos_token)
        if reason is EndReason.EOS:
            return next(iter(eos), None)
        if reason is EndReason.STOP_TOKEN:  # the model's own ends would be of the other reason
            return min(self._params.stop_token_ids - set(eos), default=None)
        return None

    def _told(self, score: TokenScore) -> dict[str, Any]:
        """A token and its alternatives, the token first."""
        ranks = {token_id: rank for rank, (token_id, _) in enumerate(score.top, 1)}
        found = {score.token_id: score.logprob, **dict(score.top)}
        return {
            str(token_id): {
                "logprob": logprob,
                "rank": ranks.get(token_id),
                "decoded_token": self._text.decode([token_id]),
            }
            for token_id, logprob in found.items()
        }


def _given(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("It has to be a JSON object.", field="sampling_parameters")
    return cast("dict[str, Any]", given)


def _params(given: Mapping[str, Any]) -> SamplingParams:
    """vLLM's sampling parameters as the engine's.

    Raises:
        InvalidArgument: one is unknown here, or of another type.
    """
    try:
        return _read_params(dict(given))
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"A number is none: {error}.", field="sampling_parameters") from None


def _read_params(rest: dict[str, Any]) -> SamplingParams:
    most = int(rest.pop("max_tokens", None) or _MAX_TOKENS)
    seed = rest.pop("seed", None)
    stops = frozenset(int(one) for one in rest.pop("stop_token_ids", None) or ())
    logprobs = rest.pop("logprobs", None)
    if int(rest.pop("n", None) or 1) != 1:
        raise InvalidArgument("A request has one sequence here: leave n out.", field="n")
    numbers: dict[str, Any] = {
        name: kind(rest.pop(name)) for name, kind in _NUMBERS.items() if rest.get(name) is not None
    }
    named = sorted(name for name, value in rest.items() if value not in (None, [], {}))
    if named:
        raise InvalidArgument(
            f"This model takes no {', '.join(named)}; it takes max_tokens, seed, stop_token_ids, "
            f"logprobs and {', '.join(_NUMBERS)}.",
            field=named[0],
        )
    numbers["top_k"] = max(0, int(numbers.get("top_k", 0)))  # vLLM's -1 is none, too
    return SamplingParams(
        max_tokens=most,
        seed=secrets.randbits(63) if seed is None else int(seed),
        stop_token_ids=stops,
        logprobs=None if logprobs is None else int(logprobs),
        **numbers,
    )


def _array(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)


def _text(request: Any, name: str) -> str | None:
    array = _array(request, name)
    return None if array is None or not len(array) else array[0].decode("utf-8")


def _flag(request: Any, name: str) -> bool | None:
    array = _array(request, name)
    return None if array is None or not len(array) else bool(array[0])
