"""What the dialect serves, for the OpenAPI document."""

from typing import Any

from gateway.dialects.webui import answer_schema as answers
from gateway.dialects.webui import schema
from gateway.dialects.webui.option_schema import OptionValues
from gateway.dialects.webui.routes import PREFIX
from gateway.openapi import Operation

_LISTS: tuple[tuple[str, str, Any], ...] = (
    ("sd-models", "Lists the image models.", list[answers.CheckpointItem]),
    ("samplers", "Lists the samplers.", list[answers.SamplerItem]),
    ("schedulers", "Lists the sigma schedules.", list[answers.SchedulerItem]),
    ("scripts", "Lists the scripts: none.", answers.ScriptNames),
    ("script-info", "Tells about scripts: there are none.", list[Any]),
    ("upscalers", "Lists ways to enlarge pictures in a second pass.", list[answers.UpscalerItem]),
    ("latent-upscale-modes", "Lists ways to enlarge latents.", list[answers.LatentMode]),
    ("sd-vae", "Lists the VAEs beside those of the models: none.", list[Any]),
    ("loras", "Lists the LoRAs: none.", list[Any]),
    ("hypernetworks", "Lists the hypernetworks: none.", list[Any]),
    ("face-restorers", "Lists the face restorers: none.", list[Any]),
    ("realesrgan-models", "Lists the upscaling models: none.", list[Any]),
    ("prompt-styles", "Lists the styles: none.", list[Any]),
    ("extensions", "Lists the extensions: none.", list[Any]),
    ("embeddings", "Lists the textual inversions: none.", answers.TextualInversions),
    ("memory", "Tells the memory of the edge's machine.", answers.Memory),
    ("cmd-flags", "Tells the command line's flags: none.", answers.Nothing),
)
_WISHES: tuple[tuple[str, str, Any], ...] = (
    ("interrupt", "Ends what the caller draws; it answers with what there is.", answers.Nothing),
    ("skip", "Goes on with the next batch.", None),
    ("refresh-checkpoints", "Does nothing: the list is always fresh.", None),
    ("refresh-vae", "Does nothing: the list is always fresh.", None),
    ("unload-checkpoint", "Does nothing: the service keeps its memory.", answers.Nothing),
    ("reload-checkpoint", "Does nothing: the service keeps its memory.", answers.Nothing),
)


def _operation(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: Any = None,
    query: Any = None,
) -> Operation:
    return Operation(
        method,
        path,
        summary,
        answer,
        body=body,
        query=query,
        basic=True,
        error=answers.WebuiError,
    )


OPERATIONS = (
    _operation(
        "post",
        f"{PREFIX}/txt2img",
        "Draws from text, for the WebUI's clients.",
        answers.Txt2ImgAnswer,
        schema.Txt2ImgRequest,
    ),
    _operation(
        "post",
        f"{PREFIX}/img2img",
        "Draws from images, for the WebUI's clients.",
        answers.Img2ImgAnswer,
        schema.Img2ImgRequest,
    ),
    _operation(
        "post",
        "/generate-image",
        "Draws one image, for Velesio's clients.",
        answers.GeneratedImage,
        schema.GenerateImageRequest,
    ),
    _operation("get", f"{PREFIX}/options", "Gets the options.", OptionValues),
    _operation("post", f"{PREFIX}/options", "Changes options.", None, OptionValues),
    _operation(
        "get",
        f"{PREFIX}/progress",
        "Tells how far the caller's job is.",
        answers.ProgressAnswer,
        query=schema.ProgressQuery,
    ),
    _operation(
        "post",
        "/internal/progress",
        "Tells how far the job with an ID of the caller's choice is.",
        answers.TaskProgressAnswer,
        schema.TaskProgressRequest,
    ),
    _operation(
        "post",
        f"{PREFIX}/png-info",
        "Reads what an image was drawn with.",
        answers.PngInfo,
        schema.PngInfoRequest,
    ),
    *(_operation("get", f"{PREFIX}/{name}", text, answer) for name, text, answer in _LISTS),
    _operation("get", "/api/sd-models", "Lists the image models.", list[answers.CheckpointItem]),
    *(_operation("post", f"{PREFIX}/{name}", text, answer) for name, text, answer in _WISHES),
)
"""In the order of what matters most; what is answered 501 is not served."""
