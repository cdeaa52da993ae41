"""Settings of Triton Inference Server: `[triton]`. Services with the engine `triton` run their
models there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.settings_loader import key


@dataclass(frozen=True, kw_only=True)
class TritonModelSettings:
    """`[triton.models.<id>]`: how a model is run there; `<id>` is its public ID."""

    name: str = ""
    """Its name in Triton's model repository. Default: its ID, with `_` for characters that Triton
    has no names with."""
    needs: tuple[str, ...] = ()
    """Models of the repository that are loaded before it: those that a BLS model calls. What an
    ensemble consists of, Triton loads by itself."""
    config: str = ""
    """JSON object that is laid over the model's own configuration when it is loaded, such as
    `{"instance_group": [{"count": 2, "kind": "KIND_GPU"}]}`."""


@dataclass(frozen=True, kw_only=True)
class TritonSettings:
    """`[triton]`: Triton Inference Server."""

    endpoints: tuple[str, ...] = ("127.0.0.1:8001",)
    """Where its gRPC API is, as host:port. Several share the load; each has every model."""
    tls: bool = False
    """Whether it is called over TLS, checked with the system's authorities."""
    ca: Path | None = None
    """Authorities that it is checked with (PEM); with it, it is called over TLS."""
    certificate: Path | None = None
    """Certificate that callers prove themselves with (PEM), for mutual TLS."""
    certificate_key: Path | None = None
    """Its private key."""
    server_name: str = ""
    """Name in its certificate. Empty: the host that is called."""
    restricted_key: str = ""
    """Key of its `--grpc-restricted-protocol`; goes with every call. Empty: nothing is
    restricted."""
    restricted_value: str = key("", secret=True)
    """Value of that key."""
    manage_models: bool = True
    """Whether models are loaded and unloaded there (`--model-control-mode=explicit`). If not, it is
    waited until Triton has them."""
    connect_timeout_s: float = key(5.0, minimum=0.1)
    """How long an endpoint may take to answer that it is there."""
    load_timeout_s: float = key(600.0, minimum=1.0)
    """How long it may take to load a model."""
    health_interval_s: float = key(1.0, minimum=0.05)
    """Time between questions whether an endpoint and its models are ready."""
    probe_interval_s: float = key(30.0, minimum=0.0)
    """Time between trial requests to a model that nobody calls: they find a dead python model,
    which Triton goes on calling ready. 0: none."""
    prefix_affinity: bool = True
    """Whether prompts that begin alike go to the same endpoint, where its cache of prefixes helps,
    unless that is much busier than others."""
    models: Mapping[str, TritonModelSettings] = field(
        default_factory=dict[str, TritonModelSettings]
    )
    """How models are run there, by ID. As a variable: JSON."""


def repository_name(model: str) -> str:
    """The name in Triton's repository of a model that the settings give none, by its ID."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in model)
