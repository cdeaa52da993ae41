"""What other dialects, whose paths lead to the endpoints of this one, do their own way."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.context import RequestContext
from gateway.default_models import DefaultModel
from gateway.dialects.openai import envelope, schema
from gateway.errors import Problem


@dataclass(frozen=True, slots=True)
class Prefix:
    """How text endpoints answer under one prefix. What is left out is as under `/v1`."""

    default_model: DefaultModel | None = None
    """Chooses the model of a request that names none. Without it, a request must name one."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    error_frame: Callable[[Problem], bytes] = envelope.error_frame
    """Makes the last frame of a stream that fails."""
    pings: bool = True
    """Whether comments keep silent streams alive."""

    async def fill(self, body: schema.SamplingFields, context: RequestContext) -> None:
        """Puts in what a request left out.

        Raises:
            ProblemError: there is no default model.
        """
        if body.temperature is None:
            body.temperature = self.temperature
        if body.top_p is None:
            body.top_p = self.top_p
        if body.top_k is None:
            body.top_k = self.top_k
        if self.default_model is not None and body.model is None and body.deployment_id is None:
            body.model = await self.default_model(context)


V1 = Prefix()
"""As OpenAI does."""
