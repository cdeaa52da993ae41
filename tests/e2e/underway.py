"""Answers that are still being written when something happens to those who write them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any

import httpx

from tests.e2e.library import CHAT, PENSTOCK, TIMEOUT_S, Library, environment
from tests.e2e.stack import Platform, alive

TYPE = "Astronomy"
QUESTION = "What color is the sky on Mars?"
LONG = 1000
"""Tokens of an answer that takes its time."""


class Underway:
    """One answer for each way of asking, all of them still being written."""

    def __init__(self, platform: Platform, books: Library, tokens: int = LONG) -> None:
        self._platform = platform
        self._opened = contextlib.ExitStack()
        self.grpc = books.answer(TYPE, QUESTION, ignore_eos=True, max_tokens=tokens)
        while not next(self.grpc).chat.delta.text:
            pass
        body = gel_body() | {"stream": True, "logit_bias": {"2": -100}, "max_tokens": tokens}
        answer = httpx.stream(
            "POST",
            f"{platform.url}/branch/main/ai/rag",
            json=body,
            headers=platform.headers(),
            timeout=TIMEOUT_S,
        )
        self._lines = self._opened.enter_context(answer).iter_lines()
        while "text_delta" not in next(self._lines):
            pass

    def __enter__(self) -> Underway:
        """Stops the model in its tracks, so that the command's short answer doesn't end either."""
        pid = self._platform.pid("inference")
        os.kill(pid, signal.SIGSTOP)
        self._opened.callback(lambda: alive(pid) and os.kill(pid, signal.SIGCONT))
        command = ("ask", QUESTION, "-c", TYPE, "-m", CHAT, "--json")
        self._command = self._opened.enter_context(
            subprocess.Popen(
                [str(PENSTOCK), *command],
                env=environment(self._platform),
                cwd=self._platform.data_dir,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert self._command.stdout is not None
        first = self._command.stdout.readline()
        assert "retrieved" in first, (first, self._command)
        return self

    def __exit__(self, *error: object) -> None:
        self._command.kill()
        self._opened.close()

    def go_on(self) -> None:
        os.kill(self._platform.pid("inference"), signal.SIGCONT)

    def gel(self) -> list[str]:
        """What else comes over REST."""
        return [line for line in self._lines if line]

    def command(self) -> tuple[int, str, str]:
        """How the command ends, and what it says."""
        out, err = self._command.communicate(timeout=TIMEOUT_S)
        return self._command.returncode, out, err


def gel_body() -> dict[str, Any]:
    return {"context": {"query": TYPE}, "model": CHAT, "query": QUESTION, "temperature": 0}


def gel(platform: Platform) -> httpx.Response:
    path = f"{platform.url}/branch/main/ai/rag"
    return httpx.post(path, json=gel_body(), headers=platform.headers(), timeout=TIMEOUT_S)
