"""Batches are made by processes of their own: none is lost, and nobody outlives the training."""

from __future__ import annotations

import multiprocessing as mp
import subprocess
import sys

import numpy as np
from tokenizers import Tokenizer

from starters.chat.recipe.batches import Batch, Encoder, batch
from starters.chat.recipe.exam import MODEL
from starters.chat.recipe.train import produce

PATH = str(MODEL / "tokenizer.json")
STEPS = range(3)
KILLED = f"""
import multiprocessing as mp, os
from starters.chat.recipe.train import produce
context = mp.get_context("spawn")
made = context.Queue(1)
context.Process(target=produce, args=({PATH!r}, {STEPS!r}, made), daemon=True).start()
made.get()
os.kill(os.getpid(), 9)
"""


def test_what_was_made_is_read_however_late() -> None:
    context = mp.get_context("spawn")
    made: mp.Queue[Batch] = context.Queue(len(STEPS))
    process = context.Process(target=produce, args=(PATH, STEPS, made), daemon=True)
    process.start()
    while made.qsize() < len(STEPS):
        assert process.is_alive()
    process.join(1)  # long enough to leave, if it would
    encoder = Encoder(Tokenizer.from_file(PATH))
    for step in STEPS:
        assert np.array_equal(made.get(timeout=60).tokens, batch(encoder, step).tokens)
    process.join()
    assert process.exitcode == 0


def test_a_maker_ends_with_a_training_that_is_killed() -> None:
    command = [sys.executable, "-c", KILLED]
    # Its output ends when all who have inherited it have ended.
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=300)
    assert done.returncode == -9
