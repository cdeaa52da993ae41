"""The process that owns an OpenVINO GenAI pipeline. Takes the descriptor of a socket.

A process of its own, because a step of the pipeline holds Python's interpreter lock from its
beginning to its end: in the serving process nothing else would run meanwhile. It also gives all
memory back when the model is unloaded.

It polls for commands between two steps, and sleeps while there is nothing to step.
"""

import os
from typing import Any

import msgspec
import numpy as np
import openvino
import openvino_genai

from services.inference.engines.openvino_line import Line, serve_line
from services.inference.engines.openvino_messages import (
    Add,
    Broken,
    Drop,
    Gained,
    Hold,
    Ready,
    Start,
    Stepped,
    ToWorker,
)

_PLACEHOLDER = 0
"""OpenVINO wants an end token also where none ends the sequence."""
_LEAST_TEMPERATURE = 1e-30
"""Below it, dividing logits would overflow. It draws what every smaller temperature draws."""

genai: Any = openvino_genai
ov: Any = openvino


class Pipeline:
    """The sequences of a continuous-batching pipeline."""

    def __init__(self, start: Start) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = start.blocks + 1
        scheduler.cache_size = 0  # the blocks say it
        scheduler.max_num_batched_tokens = start.step_tokens
        scheduler.max_num_seqs = start.slots + 1  # one more for probes
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = start.prefix_caching
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": start.precision,
            "KV_CACHE_PRECISION": start.precision,
        }
        threads = start.threads
        if start.precision != "f32" and (threads or os.cpu_count()) == 1:
            threads = 2  # with one, OpenVINO 2026.4.1 divides by zero in half precision
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        self._pipeline = genai.ContinuousBatchingPipeline(start.folder, scheduler, "CPU", options)
        self._handles: dict[int, Any] = {}
        self._scored: set[int] = set()
        self._held: set[int] = set()
        self._dropped = False

    @property
    def due(self) -> bool:
        """True when a step has something to do."""
        return self._dropped or any(key not in self._held for key in self._handles)

    def add(self, command: Add) -> None:
        """Takes a sequence in."""
        prompt = ov.Tensor(np.array([command.prompt], dtype=np.int64))
        config = generation_config(command)
        self._handles[command.key] = self._pipeline.add_request(command.key, prompt, config)
        if command.scored:
            self._scored.add(command.key)

    def drop(self, key: int) -> None:
        """Frees a sequence's memory with the next step."""
        handle = self._handles.pop(key, None)
        self._forget(key)
        if handle is not None:
            handle.cancel()
            self._dropped = True

    def hold(self, key: int, *, held: bool) -> None:
        """Notes whether somebody waits for a sequence."""
        if held and key in self._handles:
            self._held.add(key)
        else:
            self._held.discard(key)

    def step(self) -> list[Gained]:
        """Runs one step; what each sequence gained."""
        self._dropped = False
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        gained: list[Gained] = []
        for key, handle in list(self._handles.items()):
            tokens, logprobs = self._read(key, handle)
            status = handle.get_status()
            over = status != genai.GenerationStatus.RUNNING
            if over:
                del self._handles[key]
                self._forget(key)
            if tokens or over:
                ignored = status == genai.GenerationStatus.IGNORED
                why = "the attention memory was used up" if ignored else ""
                gained.append(Gained(key, tokens, logprobs, over, why))
        return gained

    def clear(self) -> None:
        """Drops everything."""
        for key in list(self._handles):
            self.drop(key)

    def _read(self, key: int, handle: Any) -> tuple[list[int], list[float]]:
        if not handle.can_read():
            return [], []
        [output] = handle.read().values()
        return output.generated_ids, output.generated_log_probs if key in self._scored else []

    def _forget(self, key: int) -> None:
        self._scored.discard(key)
        self._held.discard(key)


def generation_config(command: Add) -> Any:
    """A sequence's sampling in OpenVINO's words."""
    config = genai.GenerationConfig()
    config.apply_chat_template = False
    config.max_new_tokens = command.max_tokens
    if command.stops:
        config.stop_token_ids = set(command.stops)
        config.eos_token_id = command.stops[0]
        config.min_new_tokens = min(command.min_tokens, command.max_tokens)
    else:
        config.set_eos_token_id(_PLACEHOLDER)
        config.ignore_eos = True
    config.repetition_penalty = command.repetition_penalty
    config.logprobs = int(command.scored)
    config.do_sample = not command.greedy
    if not command.greedy:
        config.rng_seed = command.seed
        config.temperature = max(command.temperature, _LEAST_TEMPERATURE)
        config.top_p = command.top_p
        config.top_k = command.top_k
        config.min_p = command.min_p
    return config


def obey(pipeline: Pipeline, command: ToWorker) -> list[Gained]:
    """Carries out a command; tells of a sequence that can't run."""
    match command:
        case Add():
            try:
                pipeline.add(command)
            except Exception as error:
                return [Gained(command.key, [], [], over=True, why=str(error))]
        case Drop():
            for key in command.keys:
                pipeline.drop(key)
        case Hold():
            for key in command.keys:
                pipeline.hold(key, held=command.held)
    return []


def run(line: Line) -> None:
    """Loads what the first message says, then obeys and steps until the line is closed."""
    start = msgspec.msgpack.decode(line.receive(wait=True) or b"", type=Start)
    try:
        pipeline = Pipeline(start)
    except Exception as error:
        line.send(Broken(str(error)))
        return
    line.send(Ready())
    commands: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
    while True:
        refused: list[Gained] = []
        while (body := line.receive(wait=not (pipeline.due or refused))) is not None:
            refused += obey(pipeline, commands.decode(body))
        try:
            gained = refused + pipeline.step()
        except Exception as error:
            pipeline.clear()
            line.send(Broken(str(error)))
            continue
        if gained:
            line.send(Stepped(gained))


def main(descriptor: str) -> int:
    """Runs until the line is closed; returns the exit status."""
    return serve_line(descriptor, run)
