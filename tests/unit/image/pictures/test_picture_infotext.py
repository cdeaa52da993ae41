"""Infotexts: written in the WebUI's words, read back exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.image.pictures.infotext import (
    NEGATIVE,
    Facts,
    HiresFacts,
    InpaintFacts,
    TuningFacts,
    VariationFacts,
    parse_infotext,
    write_infotext,
)

PLAIN = Facts(
    prompt="a cat", steps=20, sampler="Euler a", cfg_scale=7.0, seed=1, width=512, height=768
)


def test_a_text_in_full():
    facts = Facts(
        prompt="a red circle,\non blue",
        negative_prompt="blurry",
        steps=20,
        sampler="DPM++ 2M",
        scheduler="Karras",
        cfg_scale=7.5,
        seed=42,
        width=512,
        height=768,
        model_hash="0123456789",
        model="tiny: the first, of two",
        vae="kl",
        variation=VariationFacts(7, 0.25, 256, 384),
        denoising_strength=0.75,
        clip_skip=2,
        tiling=True,
        inpaint=InpaintFacts(4, True, True, 32, "latent noise"),
        hires=HiresFacts("Latent", 2.0, prompt='a "big" one,\ntoo', steps=5, sampler="Euler"),
        tuning=TuningFacts(eta=0.5, s_churn=1.0),
        extra={"RNG": "CPU", "Left out": None},
        version="penstock-0.1",
    )
    assert write_infotext(facts) == (
        "a red circle,\non blue\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, "
        "Size: 512x768, Model hash: 0123456789, "
        'Model: "tiny: the first, of two", VAE: kl, '
        "Variation seed: 7, Variation seed strength: 0.25, Seed resize from: 256x384, "
        "Denoising strength: 0.75, Clip skip: 2, Tiling: True, "
        "Mask blur: 4, Mask mode: Inpaint not masked, Inpaint area: Only masked, "
        "Masked area padding: 32, Masked content: latent noise, "
        "Hires upscale: 2, Hires steps: 5, Hires upscaler: Latent, Hires sampler: Euler, "
        'Hires prompt: "a \\"big\\" one,\\ntoo", Eta: 0.5, Sigma churn: 1, RNG: CPU, '
        "Version: penstock-0.1"
    )


def test_what_is_neutral_is_left_out():
    assert write_infotext(PLAIN) == (
        "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768"
    )


def test_a_size_of_the_second_pass_is_named():
    text = write_infotext(
        Facts(
            prompt="",
            steps=1,
            sampler="LMS",
            cfg_scale=1,
            seed=0,
            width=8,
            height=8,
            hires=HiresFacts("Lanczos", width=64, height=32),
        )
    )
    assert text.startswith("Steps: 1, ")
    assert parse_infotext(text)["Hires resize-2"] == "32"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.0, "7"),
        (7.5, "7.5"),
        (0.0, "0"),
        (30.0, "30"),
        (float(np.float32(0.7)), "0.7"),
        (float(np.float32(7.1)), "7.1"),
        (0.7, "0.7"),
        (1e-7, "0.0000001"),
        (1e16, "10000000000000000"),
    ],
)
def test_numbers_are_as_short_as_can_be(value: float, text: str):
    assert (
        write_infotext(
            Facts(
                prompt="", steps=1, sampler="x", cfg_scale=value, seed=2**53 - 1, width=8, height=8
            )
        )
        == f"Steps: 1, Sampler: x, CFG scale: {text}, Seed: 9007199254740991, Size: 8x8"
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TRICKY = st.one_of(
    TEXT,
    st.lists(
        st.sampled_from(
            [
                "\n",
                " ",
                ",",
                ":",
                '"',
                "\\",
                "Steps: 20, Seed: 1, Size: 8x8",
                "x",
                "Negative prompt",
                "\r",
            ]
        ),
        max_size=8,
    ).map("".join),
)


def _starts_a_negative(prompt: str) -> bool:
    return any(line.startswith(NEGATIVE) for line in prompt.split("\n"))


@given(
    prompt=TRICKY.filter(lambda prompt: not _starts_a_negative(prompt)),
    negative=st.one_of(TRICKY, TRICKY.map(f"{NEGATIVE} {{}}".format)),
    sampler=TRICKY,
    model=TRICKY,
    cfg=st.floats(0, 100, width=32),
    strength=st.none() | st.floats(0, 1),
    seed=st.integers(0, 2**53 - 1),
    hires_prompt=TRICKY,
    version=TRICKY,
)
def test_what_is_written_is_read_back(
    prompt: str,
    negative: str,
    sampler: str,
    model: str,
    cfg: float,
    strength: float | None,
    seed: int,
    hires_prompt: str,
    version: str,
):
    facts = Facts(
        prompt=prompt,
        negative_prompt=negative,
        steps=20,
        sampler=sampler,
        cfg_scale=cfg,
        seed=seed,
        width=512,
        height=768,
        model=model,
        denoising_strength=strength,
        hires=HiresFacts("Latent", 1.5, prompt=hires_prompt),
        version=version,
    )
    found = parse_infotext(write_infotext(facts))
    assert found["Prompt"] == prompt
    assert found["Negative prompt"] == negative
    assert float(found["CFG scale"]) == pytest.approx(cfg, rel=1e-6)
    assert np.float32(found["CFG scale"]) == np.float32(cfg)
    assert found.get("Sampler", "") == sampler
    assert found.get("Model", "") == model
    assert found.get("Hires prompt", "") == hires_prompt
    assert found.get("Version", "") == version
    assert found["Seed"] == str(seed)
    assert (found["Size"], found["Size-1"], found["Size-2"]) == ("512x768", "512", "768")
    assert ("Denoising strength" in found) == (strength is not None)


def test_a_prompt_line_like_a_negative_prompt_is_taken_for_one():
    text = write_infotext(
        Facts(
            prompt="a\nNegative prompt: b",
            negative_prompt="c",
            steps=1,
            sampler="x",
            cfg_scale=1,
            seed=1,
            width=8,
            height=8,
        )
    )
    found = parse_infotext(text)
    assert (found["Prompt"], found["Negative prompt"]) == ("a", "b\nNegative prompt: c")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {"Prompt": "", "Negative prompt": ""}),
        ("a cat", {"Prompt": "a cat", "Negative prompt": ""}),
        ("a cat\nSteps: 3", {"Prompt": "a cat\nSteps: 3", "Negative prompt": ""}),
        (
            'a cat\nNegative prompt:dog\nSteps: 3, Seed: 4,Model: x y , Lora hashes: "a: 1, b: 2"',
            {
                "Prompt": "a cat",
                "Negative prompt": "dog",
                "Steps": "3",
                "Seed": "4",
                "Model": "x y",
                "Lora hashes": "a: 1, b: 2",
            },
        ),
        (
            'Steps: 3, Seed: "4, Model: x',
            {"Prompt": "", "Negative prompt": "", "Steps": "3", "Seed": '"4', "Model": "x"},
        ),
        (
            "Steps: 3, odd, Seed: 4, Prompt: 5, ?: 6, Model: {}",
            {"Prompt": "", "Negative prompt": "", "Steps": "3", "Seed": "4", "Model": "{}"},
        ),
    ],
)
def test_texts_of_others_are_read(text: str, found: dict[str, str]):
    assert parse_infotext(text) == found


@given(text=TRICKY)
def test_reading_never_fails(text: str):
    found = parse_infotext(text)
    assert {"Prompt", "Negative prompt"} <= found.keys()


@pytest.mark.parametrize(
    "part",
    ["a", 'a: "', 'a:"\\', "a:", ",", '"', "a: 1, b: 2, c: 3", 'a:"x",', "Negative prompt:\n"],
)
def test_reading_long_texts_takes_as_many_looks_as_they_are_long(part: str):
    """A text for which the time grows with its square would not end here within the limit."""
    parse_infotext("Steps: 1, Seed: 2, Size: 8x8, " + part * (2_000_000 // len(part)))
