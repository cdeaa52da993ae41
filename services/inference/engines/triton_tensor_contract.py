"""What the configuration of a tensor model in Triton says of what it takes and gives."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.errors import FailedPrecondition
from services.inference.byte_strings import BYTES
from services.inference.tensor_engine import ANY_SIZE, DATATYPES, TensorEngineInfo, TensorSpec
from services.tritonserver.protocol import ModelConfig, config_pb, on_gpus

_PREFIX = "TYPE_"


@dataclass(frozen=True, slots=True)
class TensorContract:
    """How a model is called."""

    info: TensorEngineInfo
    batched: frozenset[str]
    """Inputs whose first dimension is the batch, which is the same for all."""
    most_rows: int
    """Largest batch."""
    slots: int
    """Rows, or requests where there are no batches, that one endpoint computes at once."""


def contract_of(config: ModelConfig) -> TensorContract:
    """Reads how a model is called.

    Raises:
        FailedPrecondition: it can't be asked once and answer once.
    """
    if config.model_transaction_policy.decoupled:
        raise FailedPrecondition(
            f"Triton's model `{config.name}` is decoupled: it answers with streams, and tensor "
            f"models answer each request once. Deploy it as what it is (a chat, completion or "
            f"image model), or without `decoupled`."
        )
    if config.WhichOneof("scheduling_choice") == "sequence_batching":
        raise FailedPrecondition(
            f"Triton's model `{config.name}` keeps sequences (`sequence_batching`), and tensor "
            f"models keep nothing between requests. Configure it without."
        )
    instances = sum(max(1, group.count) for group in config.instance_group) or 1
    info = TensorEngineInfo(
        name="triton",
        device="gpu" if on_gpus(config) else "cpu",
        dtype="native",
        build=f"triton-{config.backend or config.platform}",
        inputs=_specs(config, config.input),
        outputs=_specs(config, config.output),
    )
    most_rows: int = config.max_batch_size
    batched = frozenset(one.name for one in config.input if most_rows and not one.is_shape_tensor)
    return TensorContract(info, batched, most_rows, instances * max(1, most_rows))


def _specs(config: ModelConfig, tensors: Iterable[Any]) -> tuple[TensorSpec, ...]:
    found: list[TensorSpec] = []
    for tensor in tensors:
        name: str = config_pb.DataType.Name(tensor.data_type).removeprefix(_PREFIX)
        datatype = BYTES if name == "STRING" else name
        if datatype not in DATATYPES:
            raise FailedPrecondition(
                f"Triton's model `{config.name}` has the tensor `{tensor.name}` of the type "
                f"{name}, which is none of a tensor model: {', '.join(sorted(DATATYPES))}."
            )
        shape = tuple(tensor.dims)
        if config.max_batch_size > 0 and not tensor.is_shape_tensor:
            shape = (ANY_SIZE, *shape)
        optional = bool(getattr(tensor, "optional", False))  # outputs have no such thing
        found.append(TensorSpec(tensor.name, datatype, shape, optional))
    return tuple(found)
