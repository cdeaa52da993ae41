"""What the WebUI can do and this platform can't: neutral values pass, all others are refused."""

import re
from collections.abc import Collection, Sequence
from typing import Any

from gateway.dialects.webui.schema import DrawingFields
from gateway.errors import Problem, ProblemError, invalid

_UNDONE: Sequence[tuple[str, Collection[object], str]] = (
    ("restore_faces", (False,), "faces are not restored"),
    ("styles", (), "there are no styles; write what they say into the prompt"),
    ("save_images", (False,), "nothing is kept here; keep the images of the answer"),
    ("refiner_checkpoint", ("", "None"), "one model draws the whole image"),
    ("firstpass_image", ("",), "use img2img to start from an image"),
    ("firstphase_width", (0,), "use hr_scale, or hr_resize_x and hr_resize_y"),
    ("firstphase_height", (0,), "use hr_scale, or hr_resize_x and hr_resize_y"),
    ("image_cfg_scale", (0, 1.5), "no model here is led by two scales"),
    ("latent_mask", ("",), "use mask"),
    ("mask_round", (True,), "masks are not soft in latent space"),
)
"""Fields, the values that ask for nothing, and what to do instead. Null asks for nothing."""

_NETWORK = re.compile(r"<(lora|lyco|hypernet):([^:<>]{0,128})[:>]", re.IGNORECASE)
_SHOWN = 64


def refuse_undone(body: DrawingFields) -> None:
    """Refuses what can't be honoured.

    Raises:
        ProblemError: a field asks for something that is not done here.
    """
    for name, neutral, instead in _UNDONE:
        value: object = getattr(body, name, None)
        if value is None or value in neutral or value == []:
            continue
        raise unsupported(name, instead)
    if body.override_settings and body.override_settings_restore_afterwards is False:
        raise unsupported(
            "override_settings_restore_afterwards", "change options by POST /sdapi/v1/options"
        )
    if not body.disable_extra_networks:
        for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"):
            _refuse_networks(name, getattr(body, name, None) or "")
    _refuse_scripts(body)


def unsupported(name: str, instead: str) -> ProblemError:
    """Makes the error for a field whose value asks for what is not done here."""
    message = f"Unsupported value for '{name}': {instead}."
    return ProblemError(Problem("UNSUPPORTED_PARAMETER", message, param=name))


def _refuse_networks(name: str, prompt: str) -> None:
    found = _NETWORK.search(prompt)
    if found is not None:
        raise invalid(
            f"Invalid '{name}': there is no {found[1].lower()} named {found[2][:_SHOWN]!r} here. "
            "Take its tag out of the prompt, or set disable_extra_networks.",
            name,
        )


def _refuse_scripts(body: DrawingFields) -> None:
    if body.script_name not in (None, "", "None"):
        raise _no_script("script_name", body.script_name or "")
    for name, script in (body.alwayson_scripts or {}).items():
        if not _idle(script):
            raise _no_script("alwayson_scripts", name)


def _idle(script: Any) -> bool:
    """Tells whether a script is given nothing to do."""
    return not script or (isinstance(script, dict) and not script.get("args"))  # pyright: ignore[reportUnknownMemberType]


def _no_script(field: str, name: str) -> ProblemError:
    message = f"Script {name[:_SHOWN]!r} not found: there are no scripts here. Leave '{field}' out."
    return ProblemError(Problem("UNKNOWN_SCRIPT", message, param=field))
