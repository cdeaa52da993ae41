"""Triton's own messages and stubs. They come without types: only this module imports them."""

from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

pb: Any = service_pb2
"""Messages of `inference.GRPCInferenceService`."""
config_pb: Any = model_config_pb2
"""Messages of model configurations."""
InferenceStub: Any = service_pb2_grpc.GRPCInferenceServiceStub
"""Calls over a channel; asynchronous over one of `grpc.aio`."""

ModelConfig = Any
"""A `config_pb.ModelConfig`."""
InferRequest = Any
"""A `pb.ModelInferRequest`."""
InferResponse = Any
"""A `pb.ModelInferResponse`."""


def on_gpus(config: ModelConfig) -> bool:
    """Whether a model runs on GPUs. Those whose backend chooses the devices (vLLM's) do."""
    kinds = config_pb.ModelInstanceGroup
    return any(one.kind in (kinds.KIND_GPU, kinds.KIND_MODEL) for one in config.instance_group)
