"""Options of exports: what is refused, and how they get into config.pbtxt."""

from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.tritonserver.export.options import Profile, read_options
from services.tritonserver.export.sections import Layout, Port, Sample, config_text
from services.tritonserver.protocol import config_pb

USUAL = Profile((1, 16), (8, 64), (64, 256))
LAYOUT = Layout(
    backend="python",
    max_batch_size=64,
    inputs=[Port("x", "INT64", [-1], ragged=True), Port("y", "STRING", [1], optional=True)],
    outputs=[Port("z", "FP32", [3])],
    parameters={"weights": "weights"},
    samples={"a": [Sample("x", "INT64", [5], "x_5")]},
)


def parsed(layout: Layout = LAYOUT, **options: Any) -> Any:
    text = config_text(layout, read_options({"name": "m", **options}))
    return text_format.Parse(text, config_pb.ModelConfig())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "../m"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "m", "colour": 1}, "colour"),
        ({"name": "m", "dtype": "int4"}, "dtype"),
        ({"name": "m", "precision": "fp4"}, "precision"),
        ({"name": "m", "instances": 0}, "instances"),
        ({"name": "m", "queue_size": -1}, "queue_size"),
        ({"name": "m", "queue_timeout_s": -0.5}, "queue_timeout_s"),
        ({"name": "m", "gpus": [0, 0]}, "gpus"),
        ({"name": "m", "gpus": [-1]}, "gpus"),
        ({"name": "m", "preferred_batch_sizes": [0]}, "preferred_batch_sizes"),
        ({"name": "m", "timeout_action": "drop"}, "timeout_action"),
        ({"name": "m", "timeout_action": "delay"}, "timeout_action"),
        ({"name": "m", "rate_limit": ["gpu"]}, "rate_limit"),
        ({"name": "m", "rate_limit": ["gpu:0"]}, "rate_limit"),
        ({"name": "m", "rate_priority": 2}, "rate_priority"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_options(options)
    assert caught.value.field == field


@pytest.mark.parametrize("profile", ["8x64", "1x1,2x2", "1x16,8x8,64x256", "0x1,1x1,2x2", "axb,,"])
def test_a_profile_has_three_rising_shapes(profile: str) -> None:
    with pytest.raises(InvalidArgument, match="profile"):
        read_options({"name": "m", "profile": profile}).shapes(USUAL)


def test_a_profile_is_read() -> None:
    options = read_options({"name": "m", "profile": "1x8, 4x32, 16x128"})
    assert options.shapes(USUAL) == Profile((1, 8), (4, 32), (16, 128))
    assert read_options({"name": "m"}).shapes(USUAL) == USUAL


def test_every_option_is_in_the_configuration() -> None:
    config = parsed(
        gpus=[0, 2],
        instances=3,
        queue_delay_us=700,
        preferred_batch_sizes=[8, 16],
        queue_size=9,
        queue_timeout_s=1.5,
        timeout_action="delay",
        priority_levels=5,
        response_cache=True,
        rate_limit=["R1:2", "licence:1:global"],
        rate_priority=4,
    )
    assert (config.name, config.backend, config.max_batch_size) == ("m", "python", 64)
    assert [(one.name, one.optional, one.allow_ragged_batch) for one in config.input] == [
        ("x", False, True),
        ("y", True, False),
    ]
    [group] = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (3, group.KIND_GPU, [0, 2])
    limiter = group.rate_limiter
    resources = [(one.name, one.count, getattr(one, "global")) for one in limiter.resources]
    assert resources == [("R1", 2, False), ("licence", 1, True)]
    assert limiter.priority == 4
    batching = config.dynamic_batching
    assert list(batching.preferred_batch_size) == [8, 16]
    assert batching.max_queue_delay_microseconds == 700
    assert (batching.priority_levels, batching.default_priority_level) == (5, 3)
    policy = batching.default_queue_policy
    assert policy.max_queue_size == 9
    assert policy.default_timeout_microseconds == 1_500_000
    assert policy.timeout_action == policy.DELAY
    assert policy.allow_timeout_override
    assert config.response_cache.enable
    assert config.model_warmup[0].inputs["x"].input_data_file == "x_5"
    assert config.parameters["weights"].string_value == "weights"


def test_what_is_off_is_not_there() -> None:
    config = parsed(warmup=False)
    assert not config.model_warmup
    assert not config.HasField("response_cache")
    assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU
    decoupled = parsed(Layout(inputs=[], outputs=[], decoupled=True))
    assert decoupled.model_transaction_policy.decoupled
    assert not decoupled.HasField("dynamic_batching")


def test_a_preferred_batch_fits_the_largest() -> None:
    with pytest.raises(InvalidArgument, match="larger than the largest"):
        parsed(preferred_batch_sizes=[65])


@given(
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True),
    parameters=st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=3),
)
def test_any_text_is_a_configuration_that_triton_reads(
    name: str, parameters: dict[str, str]
) -> None:
    layout = Layout(inputs=[], outputs=[], parameters=parameters)
    text = config_text(layout, read_options({"name": name}))
    config = text_format.Parse(text, config_pb.ModelConfig())
    assert config.name == name
    assert {key: one.string_value for key, one in config.parameters.items()} == parameters
