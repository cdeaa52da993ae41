"""What an engine says it is changes with all that may change the bytes of its pictures."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from services.image.engines.diffusers_build import build_of
from services.image.engines.diffusers_settings import DiffusersSettings

CPU = torch.device("cpu")
SETTINGS = DiffusersSettings(device="cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_same_is_told_the_same() -> None:
    assert build_of(CPU, SETTINGS, "a") == build_of(CPU, SETTINGS, "a")


def test_weights_batching_and_compilation_count() -> None:
    found = {
        build_of(CPU, SETTINGS, "a"),
        build_of(CPU, SETTINGS, "b"),
        build_of(CPU, replace(SETTINGS, batching="any"), "a"),
        build_of(CPU, replace(SETTINGS, compile=True), "a"),
    }
    assert len(found) == 4


def test_threads_count() -> None:
    two = build_of(CPU, SETTINGS, "a")
    torch.set_num_threads(1)
    assert build_of(CPU, SETTINGS, "a") != two


def test_the_processor_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {build_of(CPU, SETTINGS, "a")}
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
        found.add(build_of(CPU, SETTINGS, "a"))
    others: dict[str, Any] = torch.cpu.get_capabilities() | {"avx512_vnni": "another"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: others)
    found.add(build_of(CPU, SETTINGS, "a"))
    assert len(found) == 3


@pytest.mark.gpu
def test_a_gpu_counts() -> None:
    assert build_of(torch.device("cuda"), SETTINGS, "a") != build_of(CPU, SETTINGS, "a")
    first = build_of(torch.device("cuda:0"), SETTINGS, "a")
    assert build_of(torch.device("cuda"), SETTINGS, "a") == first
