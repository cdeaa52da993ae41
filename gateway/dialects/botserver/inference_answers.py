"""What models answered in one inference, translated. No I/O."""

import base64
from datetime import timedelta

import msgspec
import numpy as np
import orjson
from penstock.embedding.v1 import embedding_service_pb2 as embedding_service
from penstock.image.v1 import image_service_pb2 as image_service
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import usage_pb2

from gateway.dialects.botserver import inference_schema as schema
from gateway.errors import Problem, ProblemError
from gateway.tensors import outputs

_NOTHING = Problem("CANCELLED", "The image was interrupted before it was finished. Try again.")


def of_text(response: inference_pb2.InferResponse, model: str) -> schema.RawAnswer:
    """Renders the text of a chat or completion model."""
    text = msgspec.json.encode(response.text)
    return _answer(model, text, response.usage, response.latency.ToTimedelta())


def of_vector(response: embedding_service.EmbedResponse, model: str) -> schema.RawAnswer:
    """Renders the vector of an embedding model."""
    vector = np.frombuffer(response.embeddings[0].values, np.dtype("<f4"))
    numbers = orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)
    return _answer(model, numbers, response.usage, response.compute_duration.ToTimedelta())


def of_image(response: image_service.ImageResponse, model: str) -> schema.RawAnswer:
    """Renders the picture of an image model.

    Raises:
        ProblemError: it was interrupted.
    """
    if not response.images:
        raise ProblemError(_NOTHING)
    picture = b'"' + base64.b64encode(response.images[0].data) + b'"'
    timings = response.finish.timings
    seconds = timings.denoise.ToTimedelta() + timings.decode.ToTimedelta()
    return _answer(model, picture, response.finish.usage, seconds)


def of_tensors(
    response: inference_pb2.InferResponse, model: str, *, named: bool
) -> schema.RawAnswer:
    """Renders the outputs of a tensor model; with their names, or where there are several."""
    arrays = outputs(response.tensors.tensors, named=named)
    return _answer(model, arrays, None, response.latency.ToTimedelta())


def _answer(
    model: str, output: bytes, usage: usage_pb2.Usage | None, latency: timedelta
) -> schema.RawAnswer:
    counts = None
    if usage is not None:
        counts = schema.InferenceUsage(
            usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
        )
    milliseconds = round(latency.total_seconds() * 1000, 3)
    return schema.RawAnswer(
        model=model, output=msgspec.Raw(output), usage=counts, latency_ms=milliseconds
    )
