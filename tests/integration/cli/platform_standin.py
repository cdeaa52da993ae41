# ruff: noqa: N802 - RPCs have their names from the protos
"""Stands in for a platform: a catalogue in memory and a model that says what it is told.

    python platform_standin.py FOLDER

Built on the real chassis, so that errors and roles are the real ones.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2
from penstock.inference.v1 import event_pb2, inference_service_pb2_grpc, usage_pb2
from penstock.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from penstock.retrieval.v1 import retrieval_service_pb2_grpc
from retrieval_standin import Retrieval

from policy.principals import Principal
from services.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidCredentials,
    MissingCredentials,
    ModelNotFound,
    QueueFull,
    Unsupported,
    UnsupportedParameter,
)
from services.rpc.access import Role, open_method, principal, requires
from services.rpc.server import Registration, ServerSettings, serve

READY = model_pb2.Model.STATE_READY
Observation = model_pb2.Observation


class Everybody:
    """Knows any number of admins, and one user."""

    def authenticate(self, metadata: Any, *_: Any) -> Principal:
        key = dict(metadata).get("authorization", "").removeprefix("Bearer ")
        if not key:
            raise MissingCredentials("No API key came with the call.")
        if not key.startswith(("admin-", "user-")):
            raise InvalidCredentials("The API key is unknown, revoked or expired.")
        role = Role.ADMIN if key.startswith("admin-") else Role.USER
        return Principal(key, "someone", frozenset({role}))


def model(id_: str, **fields: Any) -> model_pb2.Model:
    made = model_pb2.Model(
        name=f"models/{id_}",
        kind=model_pb2.MODEL_KIND_CHAT,
        state=READY,
        revision=model_pb2.Revision(name=f"models/{id_}/revisions/1", source=f"/weights/{id_}"),
        serving_revisions=[f"models/{id_}/revisions/1"],
        config=model_pb2.ModelConfig(name=f"models/{id_}/config", etag="e1"),
        capabilities=model_pb2.Capabilities(context_length=4096, tools=True, seed=True),
        parameter_count=10_000_000,
    )
    made.MergeFrom(model_pb2.Model(**fields))
    return made


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Every admin has a catalogue of their own, so that tests don't meet."""

    def __init__(self) -> None:
        self._catalogues: dict[str, dict[str, model_pb2.Model]] = {}
        self.polls: dict[tuple[str, str], int] = {}

    @property
    def models(self) -> dict[str, model_pb2.Model]:
        return self._catalogues.setdefault(principal().id, self.fresh())

    def fresh(self) -> dict[str, model_pb2.Model]:
        broken = model("broken", state_message="no weights in the folder")
        broken.state = model_pb2.Model.STATE_FAILED
        return {
            "broken": broken,
            "other/model:7b": model("other/model:7b"),
            "starter": model("starter", aliases=["default"]),
        }

    def find(self, name: str) -> model_pb2.Model:
        wanted = name.removeprefix("models/")
        for id_, found in self.models.items():
            if wanted == id_ or wanted in found.aliases:
                return found
        raise ModelNotFound(f"There is no model '{wanted}'.", field="name")

    @requires(Role.USER)
    async def ListModels(self, request: Any, context: Any) -> Any:
        found = [m for m in self.models.values() if not request.kinds or m.kind in request.kinds]
        start = int(request.page_token or 0)
        token = str(start + 2) if start + 2 < len(found) else ""
        return model_service_pb2.ListModelsResponse(
            models=found[start : start + 2], next_page_token=token
        )

    @requires(Role.USER)
    async def GetModel(self, request: Any, context: Any) -> Any:
        found = self.find(request.name)
        revision = found.revision.name
        if found.deployed_by_api and revision not in found.serving_revisions:
            place = (principal().id, found.name)
            polls = self.polls[place] = self.polls.get(place, 0) + 1
            state = Observation.STATE_LOADING
            if polls > 2:
                broken = found.revision.source == "broken"
                state = Observation.STATE_FAILED if broken else Observation.STATE_READY
            del found.observations[:]
            found.observations.add(
                reporter="inference-1",
                revision=revision,
                state=state,
                progress=polls / 3,
                message="bad weights" if state == Observation.STATE_FAILED else "",
            )
            if state == Observation.STATE_READY:
                found.state = READY
                found.serving_revisions.insert(0, revision)
            elif state == Observation.STATE_FAILED and not found.serving_revisions:
                found.state, found.state_message = model_pb2.Model.STATE_FAILED, "bad weights"
        return found

    @requires(Role.MODEL_MANAGER)
    async def DeployModel(self, request: Any, context: Any) -> Any:
        old = self.models.get(request.model_id)
        if old and not request.allow_update:
            raise AlreadyExists(f"The model '{request.model_id}' exists.", field="model_id")
        made = old or model(request.model_id, deployed_by_api=True, aliases=request.aliases)
        if not old:
            made.state = model_pb2.Model.STATE_DEPLOYING
            del made.serving_revisions[:]
        else:
            made.deployed_by_api = True
            made.revision.name = f"models/{request.model_id}/revisions/2"
        made.revision.source = request.source
        self.models[request.model_id] = made
        return made

    @requires(Role.MODEL_MANAGER)
    async def DeleteModel(self, request: Any, context: Any) -> Any:
        found = self.find(request.name)
        if not found.deployed_by_api:
            raise FailedPrecondition("It comes from the configuration file.")
        del self.models[found.name.removeprefix("models/")]
        return empty_pb2.Empty()

    @requires(Role.MODEL_MANAGER)
    async def GetModelConfig(self, request: Any, context: Any) -> Any:
        return self.find(request.name).config

    @requires(Role.ADMIN)
    async def UpdateModelConfig(self, request: Any, context: Any) -> Any:
        config = self.find(request.config.name.removesuffix("/config")).config
        if request.config.etag and request.config.etag != config.etag:
            raise Conflict("The settings changed since they were read.", field="config.etag")
        request.update_mask.MergeMessage(request.config, config, True, True)
        config.etag = f"e{int(config.etag[1:]) + 1}"
        return config

    @requires(Role.MODEL_MANAGER)
    async def SetModelAliases(self, request: Any, context: Any) -> Any:
        found = self.find(request.name)
        del found.aliases[:]
        found.aliases.extend(request.aliases)
        return found

    @open_method
    async def ListRevisions(self, request: Any, context: Any) -> Any:
        raise Unsupported("not here")

    GetStatus = WatchModels = ReportModelState = ListRevisions


def delta(text: str) -> event_pb2.ChatEvent:
    return event_pb2.ChatEvent(delta=event_pb2.Delta(text=text))


class Inference(inference_service_pb2_grpc.InferenceServiceServicer):
    def __init__(self, events: Path) -> None:
        self._events = events

    @requires(Role.USER)
    async def StreamChat(self, request: Any, context: Any) -> Any:
        last = request.messages[-1]
        said = "".join(part.text for part in last.parts)
        if said == "full":
            raise QueueFull("Too many requests wait.", retry_after_s=2)
        if request.sampling.HasField("top_p"):
            raise UnsupportedParameter("This model can't do top_p.", field="sampling.top_p")
        yield event_pb2.ChatEvent(started=event_pb2.Started(id="chatcmpl-1", model=request.model))
        reason = event_pb2.FINISH_REASON_STOP
        if said == "tools":
            for piece in ('{"city":', ' "Paris"}'):
                call = event_pb2.ToolDelta(call_index=0, arguments_json=piece)
                if piece.startswith("{"):
                    call.id, call.name = "call_1", "get_weather"
                yield event_pb2.ChatEvent(tool_delta=call)
            reason = event_pb2.FINISH_REASON_TOOL_CALLS
        elif said == "for ever":
            try:
                while True:
                    yield delta("again ")
                    await asyncio.sleep(0.02)
            finally:
                (self._events / principal().id).write_text("cancelled")
        elif said == "think":
            for thought in ("Well, ", "\x1b[31mhm"):
                thinks = event_pb2.ReasoningDelta(text=thought)
                yield event_pb2.ChatEvent(reasoning_delta=thinks)
            yield delta("So it is.")
        elif said == "recall":
            yield delta(f"You thought: {request.messages[-2].reasoning!r}")
        elif said == "count":
            yield delta(f"{len(request.messages)} messages, {request.model}")
        elif said == "system":
            yield delta("".join(part.text for part in request.messages[0].parts))
        elif said == "escape":
            yield delta("\x1b[31mred\x1b[0m")
        elif said == "cut":
            yield delta("half an ans")
            return
        elif said == "long":
            yield delta("too lo")
            reason = event_pb2.FINISH_REASON_LENGTH
        else:
            for word in said.split(" "):
                yield delta(f"{word} ")
        yield event_pb2.ChatEvent(finished=event_pb2.Finished(reason=reason))
        usage = usage_pb2.Usage(prompt_tokens=3, completion_tokens=5, total_tokens=8)
        yield event_pb2.ChatEvent(done=event_pb2.Done(usage=usage))

    @open_method
    async def Chat(self, request: Any, context: Any) -> Any:
        raise Unsupported("not here")

    Complete = StreamComplete = Tokenize = Detokenize = ApplyTemplate = Chat
    GetRuntimeInfo = Infer = GetQueueStatus = Chat


async def main(events: Path) -> None:
    await serve(
        "standin",
        ServerSettings(),
        [
            Registration(model_service_pb2_grpc.add_ModelServiceServicer_to_server, Models()),
            Registration(
                inference_service_pb2_grpc.add_InferenceServiceServicer_to_server,
                Inference(events),
            ),
            Registration(
                retrieval_service_pb2_grpc.add_RetrievalServiceServicer_to_server,
                Retrieval(events),
            ),
        ],
        authenticator=Everybody(),
    )


asyncio.run(main(Path(sys.argv[1])))
