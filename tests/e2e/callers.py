"""Clients that ask a model for stories while something happens to who serves it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import httpx

from tests.e2e.stack import Platform

STORY = {
    "model": "penstock-starter",
    "messages": [{"role": "user", "content": "Tell me a story"}],
    "max_tokens": 400,
    "ignore_eos": True,
}


def chat(platform: Platform, model: str, tokens: int) -> httpx.Response:
    return httpx.post(
        f"{platform.url}/v1/chat/completions",
        json=STORY | {"model": model, "max_tokens": tokens},
        headers=platform.headers(),
        timeout=60,
    )


class Callers:
    """Ask a model again and again, for whole answers and for streams, until they are stopped."""

    def __init__(self, platform: Platform, model: str) -> None:
        self.answers: list[tuple[int, str]] = []
        """Status and fingerprint of each whole answer."""
        self.streams: list[tuple[str, str]] = []
        """Last line and fingerprint of each stream."""
        self._platform = platform
        self._model = model
        self._stop = threading.Event()
        works = (self._ask, self._follow)
        self._threads = [threading.Thread(target=self._go_on, args=(work,)) for work in works]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def heard_from(self, fingerprint: str) -> tuple[int, int]:
        """How many whole answers and streams came of one revision."""
        return (
            sum(found == fingerprint for _, found in self.answers),
            sum(found == fingerprint for _, found in self.streams),
        )

    def _go_on(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set() and len(self.answers) < 5000:
            work()

    def _ask(self) -> None:
        answer = chat(self._platform, self._model, 20)
        self.answers.append((answer.status_code, answer.json().get("system_fingerprint", "")))

    def _follow(self) -> None:
        body = STORY | {"model": self._model, "stream": True, "max_tokens": 100}
        with httpx.stream(
            "POST",
            f"{self._platform.url}/v1/chat/completions",
            json=body,
            headers=self._platform.headers(),
            timeout=60,
        ) as response:
            lines = [line for line in response.iter_lines() if line]
        found = re.search(r'"system_fingerprint": ?"(\w+)"', lines[0])
        self.streams.append((lines[-1], "" if found is None else found[1]))
