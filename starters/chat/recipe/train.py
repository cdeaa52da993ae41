"""Trains penstock-starter from nothing, or goes on from the last checkpoint.

python -m starters.chat.recipe.train
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer

from starters.chat.recipe import tokenizer as bpe
from starters.chat.recipe.batches import Batch, Encoder, batch
from starters.chat.recipe.curriculum import SEED, STEPS, lesson
from starters.chat.recipe.export import export
from starters.chat.recipe.network import SHAPE, Network
from starters.chat.recipe.start import begin
from starters.computing import Muon, fast_dtype, keep_memory

HERE: Final = Path(__file__).parent.parent
WORK: Final = HERE / ".work"
MODEL: Final = HERE / "model"
_MATRIX_RATE: Final = 0.02
_OTHER_RATE: Final = 0.003
_AHEAD: Final = 8
_SAVE_EVERY: Final = 200
_TELL_EVERY: Final = 20


def produce(path: str, steps: range, made: mp.Queue[Batch]) -> None:
    """Packs the batches of some steps ahead of the training, for as long as that lives."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    encoder = Encoder(Tokenizer.from_file(path))
    for step in steps:
        made.put(batch(encoder, step))


def _end_with_parent() -> None:
    parent = mp.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def optimizers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for layer in network.layers for p in layer.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, _MATRIX_RATE),
        torch.optim.AdamW(others, lr=_OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _tokenizer() -> Tokenizer:
    path = WORK / "tokenizer.json"
    if not path.exists():
        bpe.save(bpe.train(), WORK)
    return Tokenizer.from_file(str(path))


class Training:
    """A run: the network, its optimizers and how far it is."""

    def __init__(self, device: torch.device) -> None:
        WORK.mkdir(exist_ok=True)
        self.device = device
        self.done = 0
        torch.manual_seed(SEED)
        self.network = Network(SHAPE, fast_dtype(device))
        begin(self.network)
        self.network.to(device)
        self.tokenizer = _tokenizer()
        self.optimizers = optimizers(self.network)
        self._checkpoint = WORK / "checkpoint.pt"
        if self._checkpoint.exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, map_location=self.device)
        self.network.load_state_dict(state["network"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.done = state["done"]

    def save(self) -> None:
        """Writes a checkpoint, and the model so far."""
        draft = self._checkpoint.with_suffix(".draft")
        kept = [optimizer.state_dict() for optimizer in self.optimizers]
        torch.save(
            {"network": self.network.state_dict(), "optimizers": kept, "done": self.done}, draft
        )
        draft.replace(self._checkpoint)
        export(self.network, self.tokenizer, WORK / "exported")

    def _batches(self, producers: int) -> Iterator[Batch]:
        """The batches of all steps to come, each made by the producer whose turn it is."""
        queues: list[mp.Queue[Batch]] = [mp.Queue(_AHEAD) for _ in range(producers)]
        for turn, made in enumerate(queues):
            steps = range(self.done + turn, STEPS, producers)
            arguments = (str(WORK / "tokenizer.json"), steps, made)
            mp.Process(target=produce, args=arguments, daemon=True).start()
        for step in range(STEPS - self.done):
            yield queues[step % producers].get(timeout=600)

    def run(self, *, producers: int = 1, compiled: bool = True) -> None:
        """Trains to the end of the last lesson, with a checkpoint every so often."""
        forward = torch.compile(self.network, dynamic=False) if compiled else self.network
        began, tokens, losses = time.monotonic(), 0, list[float]()
        for packed in self._batches(producers):
            for optimizer, rate in zip(self.optimizers, (_MATRIX_RATE, _OTHER_RATE), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * lesson(self.done).rate(self.done)
            loss = forward(*(torch.from_numpy(part).to(self.device) for part in astuple(packed)))
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            self.done += 1
            tokens += packed.tokens.size
            losses.append(loss.item())
            if self.done % _TELL_EVERY == 0:
                speed = tokens / (time.monotonic() - began)
                mean = sum(losses) / len(losses)
                print(f"{time.strftime('%H:%M:%S')} step {self.done} loss {mean:.4f} "
                      f"tokens/s {speed:.0f}", flush=True)  # fmt: skip
                began, tokens, losses = time.monotonic(), 0, []
            if self.done % _SAVE_EVERY == 0 or self.done == STEPS:
                self.save()


def main() -> None:
    """Runs the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=torch.device, default="cpu", help='such as "cuda"')
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--producers", type=int, default=1, help="processes that make batches")
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--eager", action="store_true", help="do not compile the network")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_memory()
    training = Training(chosen.device)
    training.run(producers=chosen.producers, compiled=not chosen.eager)
    export(training.network, training.tokenizer, chosen.output)


if __name__ == "__main__":
    main()
