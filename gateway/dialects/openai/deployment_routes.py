"""Deployments and predictions, which the Server Node has beside OpenAI's API."""

from collections.abc import Sequence

import msgspec
from penstock.embedding.v1 import embedding_service_pb2
from penstock.image.v1 import image_service_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import queue_pb2
from penstock.model.v1 import model_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import RequestContext, context_of
from gateway.default_models import is_serving, listed_models, model_id
from gateway.dialects.openai import deployment_schema as schema
from gateway.dialects.openai import models
from gateway.errors import Problem, ProblemError, invalid
from gateway.inferences import Inferences, off_loop
from gateway.settings import Settings
from gateway.spelling import rules, spelling
from gateway.tensors import in_a_row
from gateway.validation import decode

_SPELLED = spelling(rules((r"^model$", "deployment_id")))
_OF_INFERENCE = (
    model_pb2.MODEL_KIND_CHAT,
    model_pb2.MODEL_KIND_COMPLETION,
    model_pb2.MODEL_KIND_TENSOR,
)
"""Kinds that the inference service serves."""


class Deployments:
    """`GET /v1/deployments`: models that serve or are to serve soon."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        found = [
            _object(model)
            for model in await listed_models(self._clients, context)
            if models.is_listed(model)
        ]
        await send_json(send, msgspec.json.encode(schema.DeploymentList(found, len(found))))


class OneDeployment:
    """`GET /v1/deployments/{id}`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._clients = clients
        self._inferences = Inferences(settings, clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        name: str = scope["path_params"]["deployment_id"]
        if not name:
            message = "Invalid URL: the ID of a deployment is missing."
            raise ProblemError(Problem("UNKNOWN_URL", message))
        model = await self._inferences.model(name, context, "deployment_id")
        info = inference_pb2.RuntimeInfo()
        metrics = None
        if is_serving(model):
            info = await self._runtime(model, context)
            metrics = await self._metrics(model, info, context)
        one = _object(model)
        answer = schema.Deployment(
            **msgspec.structs.asdict(one),
            id=one.deployment_id,
            input_specs=_forms(info.inputs),
            output_specs=_forms(info.outputs),
            metrics=metrics,
        )
        await send_json(send, msgspec.json.encode(answer))

    async def _runtime(
        self, model: model_pb2.Model, context: RequestContext
    ) -> inference_pb2.RuntimeInfo:
        if model.kind not in _OF_INFERENCE:
            return inference_pb2.RuntimeInfo()
        return await self._inferences.runtime(model_id(model), context)

    async def _metrics(
        self, model: model_pb2.Model, info: inference_pb2.RuntimeInfo, context: RequestContext
    ) -> schema.DeploymentMetrics:
        if info.model:
            latency = info.mean_latency.ToNanoseconds() / 1e6
            return schema.DeploymentMetrics(
                request_count=info.completed_24h,
                avg_latency_ms=round(latency, 3) if info.HasField("mean_latency") else None,
                running=info.running_count,
                waiting=info.waiting_count,
            )
        workers = (await self._queue(model, context)).workers
        own = [worker for worker in workers if worker.model == model_id(model)]
        return schema.DeploymentMetrics(
            request_count=None,
            avg_latency_ms=None,
            running=sum(worker.running_count for worker in own),
            waiting=sum(worker.waiting_count for worker in own),
        )

    async def _queue(
        self, model: model_pb2.Model, context: RequestContext
    ) -> queue_pb2.QueueStatus:
        if model.kind == model_pb2.MODEL_KIND_IMAGE:
            request = image_service_pb2.GetQueueStatusRequest()
            return await ask(self._clients.images.GetQueueStatus, request, context)
        asked = embedding_service_pb2.GetQueueStatusRequest()
        return await ask(self._clients.embedding.GetQueueStatus, asked, context)


class Predictions:
    """`POST /v1/predict`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._inferences = Inferences(settings, clients)
        self._decoder = msgspec.json.Decoder(schema.Predict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        context = context_of(scope)
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        if bytes(body.input).lstrip()[:1] not in (b"[", b"{"):
            message = "Invalid type for 'input': expected an array or an object."
            raise invalid(message, "input", "invalid_type")
        name = body.deployment_id
        model = await self._inferences.model(name, context, "deployment_id")
        if model.kind != model_pb2.MODEL_KIND_TENSOR:
            message = (
                f"The deployment `{name}` is of the type {_object(model).type}, and takes no "
                f"arrays of numbers: use the endpoints for models of that type."
            )
            raise invalid(message, "deployment_id")
        try:
            response = await self._inferences.infer_arrays(
                name, bytes(body.input), context, receive, batched=True
            )
        except ProblemError as error:
            raise ProblemError(_SPELLED(error.problem)) from None
        answer = await off_loop(
            sum(len(tensor.data) for tensor in response.tensors.tensors),
            lambda: _prediction(name, response),
        )
        await send_json(send, answer)


def _prediction(name: str, response: inference_pb2.InferResponse) -> bytes:
    first = response.tensors.tensors[0]
    answer = schema.RawPrediction(
        deployment_id=name,
        output=msgspec.Raw(in_a_row(first)),
        shape=list(first.shape),
        latency_ms=round(response.latency.ToNanoseconds() / 1e6, 3),
    )
    return msgspec.json.encode(answer)


def _object(model: model_pb2.Model) -> schema.DeploymentObject:
    item = models.to_model(model)
    return schema.DeploymentObject(
        deployment_id=item.id, model_id=item.id, type=item.type, status=item.status
    )


def _forms(specs: Sequence[inference_pb2.TensorSpec]) -> list[schema.TensorForm]:
    return [
        schema.TensorForm(spec.name, None if spec.any_rank else list(spec.shape), spec.datatype)
        for spec in specs
    ]
