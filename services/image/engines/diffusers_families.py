"""The kinds of pipelines that are known, and how they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from diffusers.pipelines.auto_pipeline import AutoPipelineForImage2Image
from torch import Tensor

from services.errors import FailedPrecondition
from services.image.engine import Plan
from services.image.engines.diffusers_text import ClipReader, pieces_of
from services.image.engines.diffusers_walk import Walk

_AUTO: Any = AutoPipelineForImage2Image


@dataclass(frozen=True, slots=True)
class Family:
    """Pipelines of one architecture."""

    name: str
    """Class of the one that draws from text."""
    kinds: tuple[str, ...]
    """Classes of the same components that a folder may name."""
    denoiser: str
    """Component."""
    flow: bool = False
    """Trained by flow matching, not to predict noise."""
    packs: bool = False
    """Its latents are packed, two by two."""
    shifts: bool = False
    """Its pipeline tells every scheduler how far to shift."""
    skips_layers: bool = True
    """Whether its prompts may be read from an earlier layer."""
    first_layer: int = 1
    """Layers from the end at which its prompts are read."""
    convolves: bool = False
    """Made of convolutions, so that opposite edges can be made to meet; CLIP alone reads for it."""


FAMILIES = (
    Family(
        "StableDiffusionPipeline",
        ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
        "unet",
        convolves=True,
    ),
    Family(
        "StableDiffusionXLPipeline",
        ("StableDiffusionXLInpaintPipeline",),
        "unet",
        first_layer=2,
        convolves=True,
    ),
    Family(
        "StableDiffusion3Pipeline",
        ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        "transformer",
        flow=True,
        first_layer=2,
    ),
    Family(
        "FluxPipeline",
        ("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
        "transformer",
        flow=True,
        packs=True,
        shifts=True,
        skips_layers=False,
    ),
)


def find_family(kind: str) -> Family:
    """The family of a pipeline class.

    Raises:
        FailedPrecondition: it is not known.
    """
    for family in FAMILIES:
        if kind == family.name or kind in family.kinds:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in (family.name, *family.kinds))
    raise FailedPrecondition(f"Pipelines of class “{kind}” are not known here. Known: {known}.")


class Words(NamedTuple):
    """What one drawing is to show in one pass."""

    prompt: str
    negative: str
    weighs: bool
    """Whether brackets say how much words weigh."""


class _FromImage:
    """An image-to-image pipeline that begins where it is told to.

    The library's own rounds the number of steps, and draws noise that can't be varied.
    """

    walk: Walk
    skipped: int
    picture: Tensor
    noise: Tensor

    def get_timesteps(self, num_inference_steps: int, *_: Any, **__: Any) -> tuple[Tensor, int]:
        return self.walk.start(self.skipped), num_inference_steps - self.skipped

    def prepare_latents(self, _image: Any, timestep: Tensor, *_: Any, **__: Any) -> Any:
        return self.walk.noised(self.picture, self.noise, timestep)


class _PackedFromImage(_FromImage):
    """The same, with positions beside the latents."""

    def prepare_latents(self, _image: Any, timestep: Tensor, *args: Any, **kwargs: Any) -> Any:
        latents = super().prepare_latents(_image, timestep)
        given = dict(zip(("batch_size", "channels", "height", "width"), args, strict=False))
        step = self.vae_scale_factor * 2  # pyright: ignore  (a pipeline's)
        ids = self._prepare_latent_image_ids(  # pyright: ignore  (a pipeline's)
            1, given["height"] // step, given["width"] // step, latents.device, torch.float32
        )
        return latents, ids


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Those of one model: they share their components."""

    family: Family
    text: Any
    image: Any

    @classmethod
    def of(cls, family: Family, text: Any) -> "Pipelines":
        """Makes the one from images of the same components as the one from text."""
        auto = _AUTO.from_pipe(text)
        base = cast("Any", type(auto))
        start = _PackedFromImage if family.packs else _FromImage
        kind: Any = type(f"Begun{base.__name__}", (start, base), {})
        more: dict[str, Any] = (
            {"requires_safety_checker": False} if "safety_checker" in auto.components else {}
        )
        image = kind(**auto.components, **more)
        for pipeline in (text, image):
            pipeline.set_progress_bar_config(disable=True)
        return cls(family, text, image)

    @property
    def denoiser(self) -> Any:
        """The model that the steps are made with."""
        return getattr(self.text, self.family.denoiser)

    @property
    def reader(self) -> tuple[Any, int]:
        """The tokenizer of the encoder that reads most of a prompt, and its most tokens.

        The small encoders beside a large one only see the beginning, as they were trained to.
        """
        text = self.text
        large = text.tokenizer_2 if self.family.packs else getattr(text, "tokenizer_3", None)
        tokenizer = large or text.tokenizer
        most = int(tokenizer.model_max_length)
        if large is not None:
            most = min(
                most, 512 if self.family.packs else 256
            )  # what the pipelines read by default
        return tokenizer, most - int(tokenizer.num_special_tokens_to_add())

    @property
    def reads_pieces(self) -> bool:
        """Whether prompts longer than CLIP reads are read in pieces, and words can be weighed."""
        return self.family.convolves

    @property
    def clip_readers(self) -> list[ClipReader]:
        """What reads in pieces."""
        text, inner = self.text, self.family.first_layer > 1
        pairs = [
            (getattr(text, f"tokenizer{n}", None), getattr(text, f"text_encoder{n}", None))
            for n in ("", "_2")
        ]
        return [ClipReader(*pair, inner) for pair in pairs if pair[1] is not None]

    @property
    def own_guidance(self) -> bool:
        """Whether the model was taught to guide itself, and takes no negative prompt."""
        config = self.denoiser.config
        if self.family.packs:
            return bool(config.guidance_embeds)
        return config.get("time_cond_proj_dim") is not None

    def guidance(self, scale: float) -> dict[str, Any]:
        """How the pipelines are told the strength of guidance."""
        if not self.family.packs:
            return {"guidance_scale": max(1.0, scale)}
        if self.own_guidance:
            return {"guidance_scale": scale}
        return {"true_cfg_scale": max(1.0, scale)}

    def conditions(self, prompts: Sequence[Words], plan: Plan) -> dict[str, Tensor]:
        """What the pipelines take instead of prompts: each was read alone."""
        read: dict[Words, Mapping[str, Tensor]] = {}
        one = self._from_pieces if self.reads_pieces else self._condition
        for words in prompts:
            if words not in read:
                read[words] = one(words, plan, guided=plan.cfg_scale > 1)
        names = read[prompts[0]]
        return {name: torch.cat([read[words][name] for words in prompts]) for name in names}

    def _from_pieces(self, words: Words, plan: Plan, *, guided: bool) -> dict[str, Tensor]:
        text, pieces, negative = self.text, plan.prompt_pieces, words.negative

        def read(prompt: str) -> tuple[Tensor, Tensor]:
            found = pieces_of(text.tokenizer, prompt, weighs=words.weighs)
            found += [()] * (pieces - len(found))
            states = [reader.read(found, plan.clip_skip) for reader in self.clip_readers]
            return torch.cat([each for each, _ in states], dim=-1), states[-1][1]

        embeds, pooled = read(words.prompt)
        made = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
        if guided:
            # Some models were trained with zeros where there is no negative prompt.
            zeros = not negative and text.config.get("force_zeros_for_empty_prompt")
            embeds, pooled = (
                (torch.zeros_like(embeds), torch.zeros_like(pooled)) if zeros else read(negative)
            )
            made |= {"negative_prompt_embeds": embeds, "negative_pooled_prompt_embeds": pooled}
        return {k: v for k, v in made.items() if self.family.first_layer > 1 or "pooled" not in k}

    def _condition(self, words: Words, plan: Plan, *, guided: bool) -> dict[str, Tensor]:
        text, prompt, negative = self.text, words.prompt, words.negative
        names = ("prompt_embeds", "negative_prompt_embeds")
        pooled = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        common: dict[str, Any] = {"device": text._execution_device, "num_images_per_prompt": 1}
        if self.family.packs:
            read = self._packed(prompt, common, (names[0], pooled[0]))
            if guided and not self.own_guidance:
                read |= self._packed(negative, common, (names[1], pooled[1]))
            return read
        common |= {
            "do_classifier_free_guidance": guided,
            "clip_skip": plan.clip_skip - 1 if plan.clip_skip > 1 else None,
            "negative_prompt": negative if guided else None,
        }
        found = text.encode_prompt(prompt, None, None, **common)
        return {
            name: value
            for name, value in zip((*names, *pooled), found, strict=True)
            if value is not None and (guided or not name.startswith("negative"))
        }

    def _packed(
        self, prompt: str, common: Mapping[str, Any], names: tuple[str, str]
    ) -> dict[str, Tensor]:
        embeds, pooled, _ids = self.text.encode_prompt(prompt, None, **common)
        return {names[0]: embeds, names[1]: pooled}
