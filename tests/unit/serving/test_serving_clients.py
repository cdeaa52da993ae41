"""Every field of the catalogue's protos arrives, or is named here as left out."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from services.serving import clients
from services.serving.catalogue import Changed, Deleted, Heartbeat, Snapshot
from services.serving.models import ModelKind, ModelSettings

CONFIG = pb.ModelConfig(
    default_temperature=0,
    default_top_p=0.5,
    default_max_tokens=1,
    max_tokens_limit=2,
    max_batch_size=3,
    max_choices=4,
    system_prompt="s",
    stop=["t"],
    default_steps=5,
    default_cfg_scale=6,
)
IDENTITY = {"name", "etag"}


def test_each_setting_is_read() -> None:
    names = {field.name for field in pb.ModelConfig.DESCRIPTOR.fields} - IDENTITY
    settings, default = clients.to_settings(CONFIG), ModelSettings()
    assert names == set(ModelSettings.__dataclass_fields__)
    assert all(getattr(settings, name) != getattr(default, name) for name in names)
    assert settings.default_temperature == 0
    assert clients.to_settings(pb.ModelConfig()) == default


LEFT_OUT_OF_LOADING = {
    "replicas",  # the catalogue's own affair
}


def test_each_load_option_makes_another_model() -> None:
    def key(**options: Any) -> object:
        revision = pb.Revision(name="models/m/revisions/1", load_options=pb.LoadOptions(**options))
        return clients.to_wanted(pb.Model(name="models/m", kind=1, revision=revision)).load

    samples: dict[int, Any] = {FieldDescriptor.TYPE_STRING: "x", FieldDescriptor.TYPE_INT32: 7}
    for field in pb.LoadOptions.DESCRIPTOR.fields:
        changes = key(**{field.name: samples[field.type]}) != key()
        assert changes is (field.name not in LEFT_OUT_OF_LOADING), field.name


def test_a_model_is_read() -> None:
    model = pb.Model(
        name="models/org/m:x",
        uid="u",
        kind=pb.MODEL_KIND_COMPLETION,
        aliases=["a", "b"],
        revision=pb.Revision(name="models/org/m:x/revisions/2", source="/weights"),
        config=CONFIG,
    )
    wanted = clients.to_wanted(model)
    assert (wanted.id, wanted.kind, wanted.aliases) == (
        "org/m:x",
        ModelKind.COMPLETION,
        ("a", "b"),
    )
    assert (wanted.load.uid, wanted.load.source, wanted.load.dtype) == ("u", "/weights", "auto")
    assert wanted.settings == clients.to_settings(CONFIG)


def test_kinds_are_those_of_the_proto() -> None:
    names = {f"MODEL_KIND_{kind.name}": kind.value for kind in ModelKind}
    assert names == {name: value for name, value in pb.ModelKind.items() if value}


MODEL = pb.Model(name="models/m", kind=1)
STOPPED = pb.Model(name="models/m", kind=1, state=pb.Model.STATE_STOPPED)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            service_pb.WatchModelsEvent(
                sequence=3, snapshot=service_pb.WatchModelsEvent.Snapshot(models=[MODEL, STOPPED])
            ),
            Snapshot(3, [clients.to_wanted(MODEL)]),
        ),
        (
            service_pb.WatchModelsEvent(sequence=4, changed=MODEL),
            Changed(4, clients.to_wanted(MODEL)),
        ),
        (service_pb.WatchModelsEvent(sequence=5, changed=STOPPED), Deleted(5, "m")),
        (service_pb.WatchModelsEvent(sequence=6, deleted="models/m"), Deleted(6, "m")),
        (service_pb.WatchModelsEvent(sequence=7, heartbeat={}), Heartbeat(7)),
        (service_pb.WatchModelsEvent(sequence=8), None),
    ],
)
def test_each_event_is_read(event: service_pb.WatchModelsEvent, expected: object) -> None:
    assert clients.to_event(event) == expected
