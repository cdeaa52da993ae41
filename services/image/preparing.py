"""From a request to an order: everything checked, filled in and decoded before it waits for the
engine."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from services.errors import ContextLengthExceeded
from services.image.checkpoints import checkpoint
from services.image.defaults import Options, fill_in
from services.image.engine import Drawing, ImageModel, Plan, PromptLength
from services.image.engines.plans import first_steps, second_steps
from services.image.facts import Describer
from services.image.files import finisher
from services.image.limits import Limits
from services.image.orders import Order, partial_steps
from services.image.plans import (
    check_plan,
    plan_of,
    resizes_in_latents,
    variation_of,
    with_sizes,
)
from services.image.prompts import weighted
from services.image.requests import ImageRequest
from services.image.sources import (
    Size,
    Source,
    Threads,
    held_bytes,
    need_latent_resize,
    read_sizes,
    read_source,
)
from services.serving.models import ModelSettings


@dataclass(frozen=True, slots=True)
class Target:
    """The model that is to draw."""

    id: str
    model: ImageModel
    fingerprint: str
    budget: Callable[[], int]
    """Bytes that drawings may take now."""
    settings: ModelSettings = field(default_factory=ModelSettings)
    """What requests take that don't say."""


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes orders of requests."""

    threads: Threads
    limits: Limits
    version: str
    """Of this software, as infotexts tell it."""

    async def prepare(
        self,
        request: ImageRequest,
        options: Options,
        target: Target,
        hold: Callable[[int], None],
    ) -> Order:
        """Returns what a request asks for. `hold` takes the bytes of pictures that it holds.

        Raises:
            InvalidArgument: a field is wrong, a picture is broken, or a limit is passed.
            UnsupportedParameter: the model can't do it.
        """
        model, info, limits = target.model, target.model.info, self.limits
        multiple = info.size_multiple
        asked = fill_in(request, options, info, target.id, limits, target.settings)
        sizes: list[Size] = []
        if request.init_images:
            limits.check_size(request.width or 8, request.height or 8, "width")
            sizes = await self.threads.run(lambda: read_sizes(request, limits))
        asked = with_sizes(asked, info, sizes[0] if sizes else None, limits)
        latents = resizes_in_latents(asked)
        plan = plan_of(asked, info, latent_resize=latents)
        check_plan(model, plan, target.budget())
        if sizes:  # only what is possible and has room is decoded
            hold(held_bytes(sizes, asked, multiple, limits))
        sources = [
            await self.threads.run(partial(read_source, asked, number, multiple, limits))
            for number in range(len(sizes))
        ]
        if latents and not need_latent_resize(sources, asked):
            plan = replace(plan, latent_resize=False)
        length = await self.threads.run(lambda: _measured(model, asked))
        plan = replace(plan, prompt_pieces=length.pieces)
        return self._order(asked, plan, sources, target, length.tokens)

    def _order(
        self,
        asked: ImageRequest,
        plan: Plan,
        sources: list[Source],
        target: Target,
        tokens: int,
    ) -> Order:
        batch_size, batch_count = asked.batch_size or 1, asked.batch_count or 1
        describer = Describer(asked, checkpoint(target.id, target.model.info), self.version)
        size = (plan.hires.width, plan.hires.height) if plan.hires else (plan.width, plan.height)
        steps = first_steps(plan) + (second_steps(plan.hires) if plan.hires else 0)
        weighs = _weighs(asked, target.model)
        return Order(
            plan=plan,
            drawings=[
                _drawing(asked, number, batch_size, sources, weighs=weighs)
                for number in range(batch_size * batch_count)
            ],
            batch_size=batch_size,
            batch_count=batch_count,
            step_count=steps,
            cost=float(_cost(plan)),
            finisher=finisher(
                asked,
                describer,
                sources[0].size if sources else size,
                [source.retouch for source in sources if source.retouch is not None],
            ),
            effective=_without_pictures(asked),
            fingerprint=target.fingerprint,
            prompt_tokens=tokens,
            preview_interval_steps=asked.preview_interval_steps or 0,
            partial_steps=partial_steps(asked.partial_image_count or 0, steps),
            priority=asked.priority,
        )


def _drawing(
    asked: ImageRequest, number: int, batch_size: int, sources: list[Source], *, weighs: bool
) -> Drawing:
    source = sources[number % batch_size % len(sources)] if sources else None
    hires = asked.hires
    return Drawing(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        seed=(asked.seed or 0) + number,
        variation=variation_of(asked.variation, number, asked),
        initial=source.initial if source else None,
        mask=source.mask if source else None,
        weighs_words=weighs,
        hires_prompt=hires.prompt if hires else "",
        hires_negative_prompt=hires.negative_prompt if hires else "",
    )


def _cost(plan: Plan) -> int:
    """Work of one image; also where no step is done, it is en- and decoded."""
    cost = plan.width * plan.height * (1 + first_steps(plan))
    if plan.hires is not None:
        cost += plan.hires.width * plan.hires.height * (1 + second_steps(plan.hires))
    return cost


def _measured(model: ImageModel, asked: ImageRequest) -> PromptLength:
    """Tokens of all prompts, and the most pieces that one is read in.

    Raises:
        ContextLengthExceeded: one is not read to its end.
        InvalidArgument, UnsupportedParameter: its syntax can't be read.
    """
    hires = asked.hires
    prompts = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "hires.prompt": hires.prompt if hires else "",
        "hires.negative_prompt": hires.negative_prompt if hires else "",
    }
    info = model.info
    weighs = _weighs(asked, model)
    found: dict[str, PromptLength] = {}
    for name, text in prompts.items():
        if weighs:
            weighted(text, name)  # names the field at fault
        found[text] = length = model.measure(text, weighs_words=weighs) if text else PromptLength(0)
        most, pieces = info.max_prompt_tokens, info.max_prompt_pieces
        if length.pieces > pieces or 0 < most * pieces < length.tokens:
            raise ContextLengthExceeded(
                f"The model reads {most * pieces} tokens of a prompt, and this one has "
                f"{length.tokens}: shorten it.",
                field=name,
            )
    lengths = found.values()
    return PromptLength(sum(one.tokens for one in lengths), max(one.pieces for one in lengths))


def _weighs(asked: ImageRequest, model: ImageModel) -> bool:
    return asked.weighs_words and model.info.weighs_words


def _without_pictures(asked: ImageRequest) -> ImageRequest:
    inpainting = asked.inpainting
    if inpainting is not None:
        inpainting = replace(inpainting, mask=b"")
    return replace(asked, init_images=(), inpainting=inpainting)
