"""Every capability that the catalogue's protos know is written, or is named here as left out."""

from penstock.model.v1 import model_pb2 as pb

from services.inference import clients
from services.inference.engine import EngineCapabilities, LoadedModel
from services.inference.engines.echo_text import EchoText
from services.inference.registry import ServedModel
from services.serving.models import ModelKind
from tests.unit.inference.scripted_engine import ScriptedEngine

LEFT_OUT_OF_CAPABILITIES = {
    "shortening",  # embedding models
    "dimensions",
    "image_to_image",  # image models
}


def test_each_capability_is_written() -> None:
    able = EngineCapabilities(
        frozenset({"logprobs", "top_k"}), 20, True, True, True, True, True, True, True, True
    )
    loaded = LoadedModel(ScriptedEngine(able), EchoText())
    served = ServedModel("m", ModelKind.CHAT, "models/m/revisions/1", loaded)
    written = clients.to_capabilities(served)
    given = {field.name for field, _ in written.ListFields()}
    names = {field.name for field in pb.Capabilities.DESCRIPTOR.fields}
    assert names - given == LEFT_OUT_OF_CAPABILITIES
    assert {"top_k", "seed", "best_of"} <= set(written.sampling_fields)
    observation = pb.Observation()
    clients.describe(served, observation)
    assert observation.capabilities == written
    assert observation.template_name == EchoText().template_name
