"""The lists of upscalers are constant: each name is one that every engine has."""

from __future__ import annotations

from gateway.dialects.webui.listings import CONSTANTS
from services.image.engines.diffusers_latents import LATENT_UPSCALERS, PIXEL_UPSCALERS
from services.image.engines.echo_engine import UPSCALERS


def test_what_is_listed_is_what_engines_have() -> None:
    assert [mode.name for mode in CONSTANTS["latent-upscale-modes"]] == list(LATENT_UPSCALERS)
    assert [upscaler.name for upscaler in CONSTANTS["upscalers"]] == list(PIXEL_UPSCALERS)
    assert set(UPSCALERS) == {*LATENT_UPSCALERS, *PIXEL_UPSCALERS}
