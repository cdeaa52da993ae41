"""How llama.cpp's clients want tokens to be chosen, for the inference service. No I/O."""

from collections.abc import Mapping
from typing import Any

from penstock.inference.v1 import sampling_pb2

from gateway.dialects.velesio import schema

DEFAULTS: Mapping[str, float] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "repeat_last_n": 64,
}
"""What counts where a request says nothing, by the fields of the service."""

NAMES: Mapping[str, str] = {
    "repetition_penalty": "repeat_penalty",
    "max_tokens": "n_predict",
    "logprobs": "n_probs",
}
"""The dialect's names of fields that the service names otherwise."""

_DISPENSABLE = frozenset(
    {
        "typical_p",
        "repetition_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "mirostat",
    }
)
_RANDOM_SEEDS = frozenset({-1, 2**32 - 1})


def to_sampling(
    body: schema.LlamaCompletionRequest, biases: Mapping[int, float], seed: int
) -> sampling_pb2.Sampling:
    """Translates the sampling of a completion; `seed` is taken where it wants a random one."""
    sampling = sampling_pb2.Sampling(
        temperature=body.temperature,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        top_p=body.top_p,
        min_p=body.min_p,
        typical_p=body.typical_p,
        repetition_penalty=body.repeat_penalty,
        repeat_last_n=body.repeat_last_n,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=seed if body.seed is None or body.seed in _RANDOM_SEEDS else body.seed,
        ignore_eos=bool(body.ignore_eos),
        logprobs=body.n_probs or None,
        logit_bias=biases,
    )
    for name, value in DEFAULTS.items():
        if not sampling.HasField(name):  # type: ignore[arg-type]
            setattr(sampling, name, value)
    if body.mirostat:
        sampling.mirostat = body.mirostat
        if body.mirostat_tau is not None:
            sampling.mirostat_tau = body.mirostat_tau
        if body.mirostat_eta is not None:
            sampling.mirostat_eta = body.mirostat_eta
    if body.n_predict is not None and body.n_predict >= 0:
        sampling.max_tokens = body.n_predict
    sampling.stop.extend(stops_of(body))
    return sampling


def stops_of(body: schema.LlamaCompletionRequest) -> list[str]:
    """The texts that end the answer. Clients send empty ones for none."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    return [text for text in dict.fromkeys(stop) if text]


def dispensable(body: schema.LlamaCompletionRequest) -> set[str]:
    """Fields that are left out for a model that can't honour them.

    They are those that the dialect calls hints, and defaults that nobody asked for.
    """
    found = set(_DISPENSABLE)
    found.update(name for name in DEFAULTS if getattr(body, NAMES.get(name, name)) is None)
    return found


def leave_out(sampling: sampling_pb2.Sampling, field: str) -> None:
    """Takes a field out, with those that belong to it."""
    for name in (field, *(("mirostat_tau", "mirostat_eta") if field == "mirostat" else ())):
        sampling.ClearField(name)  # type: ignore[arg-type]


def settings_of(
    body: schema.LlamaCompletionRequest, sampling: sampling_pb2.Sampling, grammar: str
) -> dict[str, Any]:
    """Renders what was generated with, for `generation_settings`."""

    def given(name: str, neutral: float) -> float:
        has = sampling.HasField(name)  # type: ignore[arg-type]
        return _plain(getattr(sampling, name)) if has else neutral

    predicted = -1 if body.n_predict is None else body.n_predict
    return {
        "n_predict": predicted,
        "max_tokens": predicted,
        "seed": sampling.seed,
        "temperature": given("temperature", 1.0),
        "top_k": given("top_k", 0),
        "top_p": given("top_p", 1.0),
        "min_p": given("min_p", 0.0),
        "typical_p": given("typical_p", 1.0),
        "repeat_penalty": given("repetition_penalty", 1.0),
        "repeat_last_n": given("repeat_last_n", 0),
        "presence_penalty": given("presence_penalty", 0.0),
        "frequency_penalty": given("frequency_penalty", 0.0),
        "mirostat": given("mirostat", 0),
        "mirostat_tau": given("mirostat_tau", 5.0),
        "mirostat_eta": given("mirostat_eta", 0.1),
        "stop": list(sampling.stop),
        "ignore_eos": sampling.ignore_eos,
        "stream": bool(body.stream),
        "logit_bias": [
            {"token": token, "bias": _plain(sampling.logit_bias[token])}
            for token in sorted(sampling.logit_bias)
        ],
        "n_probs": body.n_probs or 0,
        "n_keep": body.n_keep or 0,
        "grammar": grammar,
    }


def _plain(value: float) -> float:
    """The shortest digits of what the service holds as a float32."""
    return value if isinstance(value, int) else float(f"{value:.7g}")
