"""A model that doesn't think, for an edge whose echo engines do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from services.inference.engines.echo_engine import EchoSettings
from services.inference.engines.echo_text import EchoText
from services.inference.registry import ServedModel
from tests.integration.gateway.echo_platform import EchoPlatform
from tests.integration.inference.inference_platform import served

PLAIN = "plain"


class PlainText(EchoText):
    """Has a template that knows no thoughts."""

    @property
    def chat_template(self) -> str:
        """The echo engine's, without what makes it one of models that think."""
        return super().chat_template.replace("</think>", "")


@contextlib.asynccontextmanager
async def plain_model(platform: EchoPlatform) -> AsyncIterator[None]:
    """Serves it beside the others."""
    thinking = await served(PLAIN, EchoSettings())
    loaded = replace(thinking.loaded, text=PlainText())
    model = ServedModel(PLAIN, thinking.kind, thinking.revision, loaded, thinking.settings)
    assert model.thoughts is None
    platform.registry.put(model)
    try:
        yield
    finally:
        platform.registry.drop(model)
        await loaded.engine.close()
