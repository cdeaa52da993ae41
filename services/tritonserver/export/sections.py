"""Writes config.pbtxt: every part of it with a line that says what it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf import text_format

from services.errors import InvalidArgument
from services.tritonserver.export.options import ExportOptions
from services.tritonserver.protocol import ModelConfig, config_pb

_PAGE = "https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output."""

    name: str
    datatype: str
    """`INT64`, `FP32`, `STRING`, …"""
    dims: Sequence[int]
    """Without the batch; -1 is any size."""
    optional: bool = False
    ragged: bool = False
    """Whether requests of different sizes may be computed together."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An input of a request that is computed before the model counts as ready."""

    name: str
    datatype: str
    dims: Sequence[int]
    file: str
    """In the folder `warmup`: its raw content."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What a kind of model says of itself."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    backend: str = ""
    platform: str = ""
    max_batch_size: int = 0
    """0: requests have no batch dimension, and Triton puts none together."""
    decoupled: bool = False
    """Whether a request has any number of answers."""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict[str, Sequence[Sample]])
    """Warm-up requests by name."""


Section = tuple[str, ModelConfig]


def config_text(layout: Layout, options: ExportOptions) -> str:
    """The content of config.pbtxt."""
    sections = [
        _head(layout, options),
        ("What goes in.", config_pb.ModelConfig(input=[_input(one) for one in layout.inputs])),
        ("What comes out.", config_pb.ModelConfig(output=[_output(one) for one in layout.outputs])),
    ]
    if layout.decoupled:
        decoupled = config_pb.ModelTransactionPolicy(decoupled=True)
        sections.append(
            (
                "A request has any number of answers: only ModelStreamInfer can call it.",
                config_pb.ModelConfig(model_transaction_policy=decoupled),
            )
        )
    sections.append(_instances(options))
    if layout.max_batch_size:
        sections.append(_batching(layout, options))
    if options.response_cache:
        sections.append(
            (
                "Equal requests are answered from the cache; the server needs --cache-config, too.",
                config_pb.ModelConfig(response_cache=config_pb.ModelResponseCache(enable=True)),
            )
        )
    if options.warmup and layout.samples:
        sections.append(_warmup(layout))
    if layout.parameters:
        given = {
            name: config_pb.ModelParameter(string_value=value)
            for name, value in layout.parameters.items()
        }
        words = "What the model and its callers read beside all this."
        sections.append((words, config_pb.ModelConfig(parameters=given)))
    written = [
        f"# {comment}\n{text_format.MessageToString(section)}" for comment, section in sections
    ]
    return (
        "# Written by `penstock triton export`. What the fields mean:\n"
        f"# {_PAGE}model_configuration.html\n\n" + "\n".join(written)
    )


def _head(layout: Layout, options: ExportOptions) -> Section:
    head = config_pb.ModelConfig(name=options.name, max_batch_size=layout.max_batch_size)
    if layout.backend:
        head.backend = layout.backend
    if layout.platform:
        head.platform = layout.platform
    most = layout.max_batch_size
    words = f"At most {most} inputs are computed together." if most else "Requests are not batched."
    return words, head


def _input(port: Port) -> ModelConfig:
    made = config_pb.ModelInput(name=port.name, data_type=_datatype(port.datatype), dims=port.dims)
    made.optional = port.optional
    made.allow_ragged_batch = port.ragged
    return made


def _output(port: Port) -> ModelConfig:
    datatype = _datatype(port.datatype)
    return config_pb.ModelOutput(name=port.name, data_type=datatype, dims=port.dims)


def _datatype(name: str) -> int:
    return config_pb.DataType.Value(f"TYPE_{name}")


def _instances(options: ExportOptions) -> Section:
    group = config_pb.ModelInstanceGroup(count=options.instances)
    group.kind = group.KIND_GPU if options.gpus else group.KIND_CPU
    group.gpus.extend(options.gpus)
    where = f"on each of the GPUs {list(options.gpus)}" if options.gpus else "on the processor"
    words = f"{options.instances} at a time {where}."
    if options.resources:
        limiter = config_pb.ModelRateLimiter(priority=options.rate_priority)
        for one in options.resources:
            limiter.resources.add(name=one.name, count=one.count, **{"global": one.everywhere})
        group.rate_limiter.CopyFrom(limiter)
        words += " They run while the rate limiter has these resources: the server needs\n"
        words += "# --rate-limit=execution_count."
    return words, config_pb.ModelConfig(instance_group=[group])


def _batching(layout: Layout, options: ExportOptions) -> Section:
    batching = config_pb.ModelDynamicBatching(
        max_queue_delay_microseconds=options.queue_delay_us,
        preferred_batch_size=options.preferred_batch_sizes,
    )
    for size in options.preferred_batch_sizes:
        if size > layout.max_batch_size:
            raise InvalidArgument(
                f"A batch of {size} is larger than the largest, {layout.max_batch_size}.",
                field="preferred_batch_sizes",
            )
    policy = batching.default_queue_policy
    policy.max_queue_size = options.queue_size
    policy.default_timeout_microseconds = int(options.queue_timeout_s * 1e6)
    policy.allow_timeout_override = True
    if options.timeout_action == "delay":
        policy.timeout_action = policy.DELAY
    if options.priority_levels:
        batching.priority_levels = options.priority_levels
        batching.default_priority_level = (options.priority_levels + 1) // 2
    words = (
        "Requests that wait are put together; a full queue, or a wait beyond its time, is an\n"
        "# error at once. A request's own parameter `timeout` (microseconds) goes before."
    )
    return words, config_pb.ModelConfig(dynamic_batching=batching)


def _warmup(layout: Layout) -> Section:
    warmups = [
        config_pb.ModelWarmup(
            name=name,
            batch_size=1 if layout.max_batch_size else 0,
            inputs={
                one.name: config_pb.ModelWarmup.Input(
                    data_type=_datatype(one.datatype),
                    dims=one.dims,
                    input_data_file=one.file,
                )
                for one in samples
            },
        )
        for name, samples in layout.samples.items()
    ]
    words = "Computed before the model counts as ready."
    return words, config_pb.ModelConfig(model_warmup=warmups)
