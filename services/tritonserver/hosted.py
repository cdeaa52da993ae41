"""A model on all endpoints of Triton, as engines call it."""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

from services.errors import DomainError, Unavailable
from services.tritonserver import calls
from services.tritonserver.calls import CallOptions
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.failures import EndpointLost
from services.tritonserver.keeper import Keeper, Probe
from services.tritonserver.placing import Place, choose
from services.tritonserver.protocol import ModelConfig
from services.tritonserver.tensors import Tensor, from_response, to_request

Outputs = dict[str, Tensor]


class HostedModel:
    """One model, loaded wherever Triton is and watched there."""

    def __init__(self, triton: Triton, keeper: Keeper) -> None:
        """Is made by `open`."""
        self._triton = triton
        self._keeper = keeper

    @classmethod
    async def open(cls, triton: Triton, model: str, *, probe: Probe | None = None) -> "HostedModel":
        """Loads a model wherever Triton is, and watches it from then on.

        Args:
            triton: the endpoints.
            model: its public ID; `[triton.models]` may say how it is called there.
            probe: has it answer once; finds what Triton calls ready and is not.

        Raises:
            Unavailable: no endpoint can load it; the message has Triton's reason.
        """
        keeper = Keeper(triton, model, probe=probe)
        try:
            await keeper.begin()
        except BaseException:
            await keeper.close()
            raise
        return cls(triton, keeper)

    @property
    def name(self) -> str:
        """Its name in Triton."""
        return self._keeper.name

    @property
    def config(self) -> ModelConfig:
        """The configuration that it runs with."""
        return self._keeper.config

    @property
    def addresses(self) -> list[str]:
        """The endpoints where it is ready."""
        return [place.endpoint.address for place in self._keeper.places if place.ready]

    async def infer(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[str] = (),
        options: CallOptions | None = None,
        model: str = "",
    ) -> Outputs:
        """Calls it for one answer; where an endpoint is lost, another one is asked.

        Args:
            inputs: what goes in.
            outputs: names of what is wanted; all without any.
            options: what goes with the call.
            model: the model that is called in its place: one that it is made of.

        Raises:
            DomainError: see `failures`.
        """
        options = (options or CallOptions()).of_this_call()
        request = to_request(model or self.name, inputs, outputs)
        tried: list[Place] = []
        while True:
            try:
                with self._calling(options, tried) as endpoint:
                    return from_response(await calls.infer(endpoint, request, options))
            except EndpointLost as error:
                if not self._others(tried):
                    raise error.told() from error

    async def stream(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[str] = (),
        options: CallOptions | None = None,
        model: str = "",
    ) -> AsyncGenerator[Outputs, None]:
        """Calls it for a stream of answers, as `infer` does. Closing it cancels the call in Triton.
        Where an endpoint is lost before its first answer, another one is asked.

        Raises:
            DomainError: see `failures`.
        """
        options = (options or CallOptions()).of_this_call()
        request = to_request(model or self.name, inputs, outputs)
        tried: list[Place] = []
        begun = False
        while True:
            try:
                with self._calling(options, tried) as endpoint:
                    async with aclosing(calls.stream(endpoint, request, options)) as answers:
                        async for answer in answers:
                            begun = True
                            yield from_response(answer)
                return
            except EndpointLost as error:
                if begun or not self._others(tried):
                    raise error.told() from error

    async def lost(self) -> DomainError:
        """Waits until no endpoint has it any more; returns why. Then it is to be closed, and opened
        anew."""
        return await self._keeper.lost()

    async def probe(self) -> None:
        """Has it answer once, on some endpoint. Raises `DomainError`."""
        try:
            await self._keeper.probe(self._choose(CallOptions(), []))
        except EndpointLost as error:
            raise error.told() from error

    async def close(self) -> None:
        """Stops watching it, and unloads it where nothing else of this process uses it."""
        await self._keeper.close()

    # Choosing.

    @contextmanager
    def _calling(self, options: CallOptions, tried: list[Place]) -> Generator[Endpoint]:
        """Gives the endpoint for a call that the block makes, and notes what it shows of it."""
        place = self._choose(options, tried)
        place.endpoint.outstanding += 1
        try:
            yield place.endpoint
            self._keeper.worked(place)
        except EndpointLost as error:
            self._keeper.suspect(place, error)
            raise
        finally:
            place.endpoint.outstanding -= 1

    def _choose(self, options: CallOptions, tried: list[Place]) -> Place:
        ready = [place for place in self._keeper.places if place.ready and place not in tried]
        affinity = options.affinity if self._triton.settings.prefix_affinity else b""
        place = choose(ready, affinity)
        if place is None:
            raise Unavailable(
                f"No Triton is there for the model `{self.name}` at the moment: try again.",
                retry_after_s=1.0,
            )
        tried.append(place)
        return place

    def _others(self, tried: Sequence[Place]) -> bool:
        return any(place.ready and place not in tried for place in self._keeper.places)
