"""Base models without a catalogue, for tests of what is decided about jobs."""

from pathlib import Path

from services.errors import InvalidArgument, ModelNotFound
from services.training.base_models import BaseModel

KINDS = {"base": "chat", "writer": "completion", "vectors": "embedding"}
ALIASES = {"default": "base"}
CONTEXT_LENGTH = 64


class Shelf:
    """A catalogue of three models."""

    async def find(self, name: str) -> BaseModel:
        id = ALIASES.get(name, name)
        kind = KINDS.get(id)
        if kind is None:
            raise ModelNotFound("no such model", field="job.base_model")
        if kind == "embedding":
            raise InvalidArgument("not to be trained", field="job.base_model")
        return BaseModel(id, kind, Path("/nowhere"), id, context_length=CONTEXT_LENGTH)

    async def deploy(self, model_id: str, base: str, job_id: str, owner: str) -> str:
        raise AssertionError("nothing ends here")
