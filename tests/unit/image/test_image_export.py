"""Image models as Triton gets them, and the words that go between it and the engine."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.errors import FailedPrecondition, InvalidArgument
from services.image.engine import Drawing, Fill, HiresPlan, Mode, Plan, Tuning, Variation
from services.image.engines.diffusers_memory import Shapes
from services.image.engines.echo_engine import EchoModel, EchoSettings
from services.image.engines.triton_export import export
from services.image.engines.triton_wire import (
    SolverWords,
    read_description,
    read_drawing_order,
    write_description,
    write_drawing_order,
)
from services.tritonserver.export.options import read_options
from services.tritonserver.protocol import config_pb
from tests.conformance.image.tiny_pipelines import save

INFO = EchoModel(EchoSettings()).info


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("velocity", tmp_path_factory.mktemp("pipelines"))


def test_a_pipeline_is_exported_whole(pipeline: Path, tmp_path: Path) -> None:
    options = {"name": "m", "gpus": [1], "instances": 2, "dtype": "float16", "queue_size": 3}
    [folder] = export(pipeline, tmp_path / "models", "image", read_options(options))
    text = (folder / "config.pbtxt").read_text("utf-8")
    config = text_format.Parse(text, config_pb.ModelConfig())
    assert config.model_transaction_policy.decoupled
    assert config.max_batch_size == 0
    said = {name: one.string_value for name, one in config.parameters.items()}
    assert (said["dtype"], said["max_waiting"], said["weights"]) == ("float16", "3", "weights")
    [group] = config.instance_group
    assert (group.count, list(group.gpus)) == (2, [1])
    assert (folder / "1" / "weights" / "model_index.json").is_file()
    assert (folder / "1" / "lib" / "services" / "image" / "engines" / "triton_host.py").is_file()
    assert (folder / "warmup" / config.model_warmup[0].inputs["order"].input_data_file).is_file()
    assert "diffusers==" in (folder / "requirements.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"layout": "onnx"}, "layout"),
        ({"response_cache": True}, "response_cache"),
        ({"priority_levels": 2}, "priority_levels"),
        ({"queue_timeout_s": 1.0}, "queue_timeout_s"),
        ({"precision": "int8"}, "precision"),
        ({"context_length": 9}, "context_length"),
    ],
)
def test_what_a_decoupled_model_has_not_is_refused(
    given: dict[str, Any], field: str, pipeline: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        export(pipeline, tmp_path, "image", read_options({"name": "m", **given}))
    assert caught.value.field == field


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition):
        export(tmp_path, tmp_path / "models", "image", read_options({"name": "m"}))


texts = st.text(max_size=20)
sides = st.integers(1, 64).map(lambda n: 8 * n)
tunings = st.builds(
    Tuning, eta=st.none() | st.floats(0, 1), s_churn=st.floats(0, 9), s_noise=st.floats(0.5, 2)
)
hires = st.builds(
    HiresPlan,
    width=sides,
    height=sides,
    upscaler=texts,
    steps=st.integers(1, 9),
    denoising_strength=st.floats(0, 1),
    sampler=texts,
    scheduler=texts,
    cfg_scale=st.floats(1, 20),
)
plans = st.builds(
    Plan,
    width=sides,
    height=sides,
    steps=st.integers(1, 50),
    cfg_scale=st.floats(1, 20),
    sampler=texts,
    scheduler=texts,
    mode=st.sampled_from(Mode),
    fill=st.sampled_from(Fill),
    tiling=st.booleans(),
    tuning=tunings,
    hires=st.none() | hires,
)
variations = st.builds(Variation, st.integers(0, 2**53 - 1), st.floats(0, 1), sides, sides)


@given(
    plan=plans,
    prompt=texts,
    seed=st.integers(0, 2**53 - 1),
    variation=st.none() | variations,
    value=st.integers(0, 255),
)
def test_orders_arrive_as_they_were(
    plan: Plan, prompt: str, seed: int, variation: Variation | None, value: int
) -> None:
    initial = Image.new("RGB", (5, 3), (value, 1, 2))
    drawing = Drawing(prompt, "bad", seed, variation, hires_prompt="more")
    if plan.mode is not Mode.TEXT:
        drawing = replace(drawing, initial=initial, mask=Image.new("L", (5, 3), value))
    order, pictures = write_drawing_order(plan, [drawing, drawing])
    found_plan, found = read_drawing_order(json.loads(order), pictures, INFO)
    assert found_plan == plan
    for one in found:
        for name in ("prompt", "negative_prompt", "seed", "variation", "hires_prompt"):
            assert getattr(one, name) == getattr(drawing, name)
        for name in ("initial", "mask"):
            mine, theirs = getattr(drawing, name), getattr(one, name)
            assert (mine is None) == (theirs is None)
            assert mine is None or np.array_equal(np.asarray(mine), np.asarray(theirs))


def test_descriptions_arrive_as_they_were() -> None:
    solvers = {"Euler": SolverWords("Euler", ("karras",), frozenset({"eta"}), True)}
    shapes = Shapes(8, 4, (8, 16), 0, 1, 8, 16)
    colours = np.arange(15, dtype=np.float64).reshape(5, 3)
    event = json.loads(json.dumps(write_description(INFO, solvers, shapes, colours, 7)))
    found = read_description(event)
    assert found.info == INFO
    assert found.solvers == solvers
    assert replace(found.shapes, levels=tuple(found.shapes.levels)) == shapes
    assert np.array_equal(found.colours, colours)
    assert found.free_bytes == 7


@pytest.mark.parametrize("other", [{}, {"format": 1}])
def test_a_model_that_was_exported_by_another_version_is_told_apart(other: dict[str, Any]) -> None:
    shapes = Shapes(8, 4, (8, 16), 0, 1, 8, 16)
    event = write_description(INFO, {}, shapes, np.zeros((5, 3)), 7)
    event.pop("format")
    with pytest.raises(ValueError, match="format"):
        read_description(event | other)
