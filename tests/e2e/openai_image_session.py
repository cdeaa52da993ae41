"""Image scenarios with openai-python 1.x and 3.x, each run by the client's own environment.

`python openai_image_session.py SCENARIO URL KEY MODEL`; a failed assertion is a failed test.
"""

import base64
import io
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

import openai

MODEL = ""
PROMPT = "a red circle on a blue background"
SIDE = 64
SEED: Any = {"seed": 7, "steps": 4}
"""What goes beside the fields that the client knows."""

Box = tuple[int, int, int, int]


def png(hole: Box = (0, 0, 0, 0)) -> bytes:
    """A picture of one colour; the hole in it is transparent."""
    left, top, right, bottom = hole
    rows = b"".join(
        b"\0"
        + b"".join(
            b"\x20\x80\xe0" + (b"\0" if left <= x < right and top <= y < bottom else b"\xff")
            for x in range(SIDE)
        )
        for y in range(SIDE)
    )
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def size_of(encoded: str | None) -> tuple[int, int]:
    assert encoded is not None
    data = base64.b64decode(encoded, validate=True)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def draw(client: openai.OpenAI, **more: Any) -> Any:
    given: Any = {"prompt": PROMPT, "size": f"{SIDE}x{SIDE}", "extra_body": SEED, **more}
    return client.images.generate(model=MODEL, **given)


def refusal(call: Callable[[], object]) -> openai.APIStatusError:
    try:
        call()
    except openai.APIStatusError as error:
        if not error.request_id:
            raise AssertionError("the client has no request id") from error
        return error
    raise AssertionError("it was not refused")


def generate(client: openai.OpenAI) -> None:
    answer = draw(client)
    (image,) = answer.data
    assert size_of(image.b64_json) == (SIDE, SIDE)
    assert image.url is None
    assert isinstance(answer.created, int)
    assert (answer.size, answer.output_format) == (f"{SIDE}x{SIDE}", "png")
    assert (answer.background, answer.quality) == ("opaque", "medium")
    assert answer.usage.total_tokens == answer.usage.input_tokens > 0
    assert answer.usage.input_tokens_details.text_tokens == answer.usage.input_tokens
    assert answer._request_id
    assert draw(client).data[0].b64_json == image.b64_json


def many(client: openai.OpenAI) -> None:
    first, second = draw(client, n=2).data
    assert first.b64_json != second.b64_json
    assert draw(client).data[0].b64_json == first.b64_json
    alone = draw(client, extra_body={**SEED, "seed": 8}).data[0]
    assert alone.b64_json == second.b64_json


def options(client: openai.OpenAI) -> None:
    answer = draw(client, output_format="jpeg", output_compression=60, quality="low", user="u")
    data = base64.b64decode(answer.data[0].b64_json)
    assert data.startswith(b"\xff\xd8\xff")
    assert (answer.output_format, answer.quality) == ("jpeg", "low")
    draw(client, background="opaque", moderation="low", response_format="b64_json")
    more = {**SEED, "guidance_scale": 2.5, "negative_prompt": "green"}
    assert size_of(draw(client, extra_body=more).data[0].b64_json) == (SIDE, SIDE)


def stream(client: openai.OpenAI) -> None:
    whole = draw(client).data[0].b64_json
    events = list(draw(client, stream=True, partial_images=2))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    for event in events:
        assert size_of(event.b64_json) == (SIDE, SIDE)
        assert (event.size, event.output_format) == (f"{SIDE}x{SIDE}", "png")
        assert isinstance(event.created_at, int)
    assert events[-1].b64_json == whole
    assert events[-1].usage.total_tokens > 0
    assert [event.type for event in draw(client, stream=True)] == ["image_generation.completed"]


def edit(client: openai.OpenAI) -> None:
    kept: Any = {"model": MODEL, "prompt": PROMPT, "extra_body": SEED}
    # A file as bytes, as a named one and as a list: three forms on the wire.
    whole = client.images.edit(image=png(), **kept).data
    named = client.images.edit(image=("a.png", io.BytesIO(png()), "image/png"), **kept).data
    listed = client.images.edit(image=[png()], **kept).data
    assert whole is not None
    assert whole == named == listed
    assert size_of(whole[0].b64_json) == (SIDE, SIDE)
    hole = png((16, 16, 40, 40))
    masked = client.images.edit(image=png(), mask=hole, n=2, **kept).data
    assert masked is not None
    assert len(masked) == 2
    assert masked[0].b64_json not in (whole[0].b64_json, masked[1].b64_json)
    own = client.images.edit(image=hole, **kept).data
    assert own is not None
    assert own[0].b64_json != whole[0].b64_json


def edit_stream(client: openai.OpenAI) -> None:
    given: Any = {"stream": True, "partial_images": 1, "extra_body": SEED}
    hole = png((16, 16, 40, 40))
    events = list(client.images.edit(model=MODEL, prompt=PROMPT, image=png(), mask=hole, **given))
    assert [event.type for event in events] == [
        "image_edit.partial_image",
        "image_edit.completed",
    ]
    assert size_of(events[-1].b64_json) == (SIDE, SIDE)


def variation(client: openai.OpenAI) -> None:
    given: Any = {"model": MODEL, "n": 2, "response_format": "b64_json", "extra_body": SEED}
    first, second = client.images.create_variation(image=png(), **given).data or ()
    assert first.b64_json != second.b64_json
    assert size_of(first.b64_json) == (SIDE, SIDE)


def errors(client: openai.OpenAI) -> None:
    for changes, param in (
        ({"size": "65x64"}, "size"),
        ({"size": "16384x16384"}, "size"),
        ({"n": 11}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"background": "transparent"}, "background"),
        ({"extra_body": {"steps": 1000}}, "steps"),
        ({"extra_body": {"seed": "x"}}, "seed"),
    ):
        error = refusal(lambda given=changes: draw(client, **given))
        assert isinstance(error, openai.BadRequestError), error
        assert error.param == param, (changes, error.param, error.message)
        error = refusal(lambda given=changes: list(draw(client, stream=True, **given)))
        assert error.param == param, (changes, error.param, error.message)
    edit = client.images.edit
    for files, param in (
        ({"image": b"no picture"}, "image"),
        ({"image": [png(), png()]}, "image"),
        ({"image": png(), "mask": png()}, "mask"),
    ):
        given: Any = {"model": MODEL, "prompt": PROMPT, **files}
        error = refusal(lambda given=given: edit(**given))
        assert isinstance(error, openai.BadRequestError), error
        assert error.param == param, (param, error.param, error.message)
    error = refusal(lambda: client.images.generate(model="nope", prompt=PROMPT))
    assert isinstance(error, openai.NotFoundError), error
    assert error.code == "model_not_found"
    intruder = openai.OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0)
    error = refusal(lambda: draw(intruder))
    assert isinstance(error, openai.AuthenticationError), error


SCENARIOS = {
    f.__name__: f for f in (generate, many, options, stream, edit, edit_stream, variation, errors)
}

if __name__ == "__main__":
    name, url, key, MODEL = sys.argv[1:]
    for scenario in SCENARIOS if name == "all" else [name]:
        SCENARIOS[scenario](
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=100)
        )
        print("ok", scenario)
