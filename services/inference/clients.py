"""What InferenceService tells the catalogue of its models."""

from penstock.model.v1 import model_pb2 as pb

from services.inference.registry import AnyServed, ServedModel, ServedTensors


def to_capabilities(served: ServedModel) -> pb.Capabilities:
    """Writes what a served model can do."""
    info = served.loaded.engine.info
    able = info.capabilities
    fields = able.sampling_fields | {"seed", "max_tokens", "n", "stop", "stop_token_ids"}
    if "logprobs" in able.sampling_fields:
        fields |= {"best_of"}
    return pb.Capabilities(
        tools=served.tools is not None,
        json_object=able.json_object,
        json_schema=able.json_schema,
        regex=able.regex,
        gbnf=able.gbnf,
        logprobs="logprobs" in able.sampling_fields,
        max_top_logprobs=able.max_top_logprobs,
        seed=True,
        lora=able.lora,
        image_input=able.image_input,
        infill=able.infill,
        context_length=info.context_length,
        sampling_fields=sorted(fields),
        prompt_logprobs=able.prompt_logprobs,
        reasoning=served.thoughts is not None,
    )


def describe(served: AnyServed, observation: pb.Observation) -> None:
    """Writes what the catalogue tells of a served model."""
    if isinstance(served, ServedTensors):
        return  # what it takes and gives, GetRuntimeInfo tells
    observation.capabilities.CopyFrom(to_capabilities(served))
    observation.parameter_count = served.loaded.engine.info.parameter_count
    observation.template_name = served.loaded.text.template_name
