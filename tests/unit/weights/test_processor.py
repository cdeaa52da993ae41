"""Where models run, in which number type, and how much memory there is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from services.errors import FailedPrecondition
from services.weights.memory import container_free, free_bytes, in_units, weight_bytes
from services.weights.processor import choose_device, choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize("wanted", ["tpu", "xla", "cuda:99", "meta", "", "CPU:x"])
def test_devices_that_are_not_there(wanted: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"use (auto, cpu, cuda or cuda:N|cpu or auto)"):
        choose_device(wanted)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bfloat16_where_the_processor_computes_it(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert choose_dtype("auto", CPU) is choose_dtype("", CPU) is expected


def test_number_types() -> None:
    assert choose_dtype("float16", CPU) is torch.float16
    assert choose_dtype("float32", CPU) is torch.float32
    with pytest.raises(FailedPrecondition, match="“int3”: use auto, float32, bfloat16, float16"):
        choose_dtype("int3", CPU)


def test_weights_take_what_their_number_type_takes(tmp_path: Path) -> None:
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    save_file({"a": np.zeros((2, 3), "float32"), "b": np.zeros(5, "float16")}, one, {"x": "y"})
    save_file({"c": np.zeros(7, "int64"), "d": np.zeros(3, "uint8"), "e": np.zeros(2, bool)}, two)
    assert weight_bytes([one], 4) == 44
    assert weight_bytes([one, two], 2) == 22 + 56 + 3 + 2


def test_free_memory_is_some(tmp_path: Path) -> None:
    assert free_bytes(CPU) > 2**20
    assert container_free(tmp_path) > 2**50
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert container_free(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert container_free(tmp_path) > 2**50


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1000, "1,000 bytes"),
        (1024, "1 KiB"),
        (10_000, "9.766 KiB"),
        (5 * 2**40, "5,120 GiB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert in_units(count) == text
