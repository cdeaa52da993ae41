"""The README of an exported image model."""

from services.image.engines.diffusers_families import Family
from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.readme import readme, tensors
from services.tritonserver.export.sections import Layout


def page(family: Family, options: ExportOptions, layout: Layout) -> str:
    """The README."""
    parts = [
        ("What it is", _about(family)),
        ("Orders and events", _orders(layout)),
        ("Environment", _environment(options)),
    ]
    return readme("an image model on Triton", options, layout, parts)


def _about(family: Family) -> str:
    return f"""
A {family.name}, drawn by this software's own diffusers engine in Triton's python backend. It is
decoupled: it answers a request with an event after every denoising step and with the pictures at
the end. A request that is cancelled is given up within a step.

A seed makes the same picture as on the diffusers engine of ImageService: it is the same code, with
the same samplers and schedules, from text, from images, inpainted, and with a second pass.
"""


def _orders(layout: Layout) -> str:
    return f"""
{tensors(layout)}

`order` is a JSON object. The shortest that draws:

```json
{{"op": "draw", "drawings": [{{"prompt": "a red circle", "seed": 1}}]}}
```

| op | more fields | events |
| --- | --- | --- |
| `draw` | `plan`, `drawings` | `step` with `latents` after each step, then `done` with `pictures` |
| `describe` |  | `description`: what the model can do; `colours` maps latents to previews |
| `measure` | `text`, `weighs_words` | `length`: `tokens` and `pieces` of a prompt |
| `decode` | the input `latents`, one drawing's | `picture` |
| `probe` |  | `alive`, after a real step where nothing is drawn at the moment |

`plan` has width, height, steps, cfg_scale, sampler, scheduler, mode, denoising_strength, hires and
so on: the fields of the dataclass `Plan` in `1/lib/services/image/engine.py`; what is left out is
the model's own. `drawings` are `Drawing` there; `initial` and `mask` are indices into `pictures`,
which are PNG files. The `latents` of a step show the drawings as they will be, as far as can be
told then.

Each answer has one `event`, a JSON object with its `type`. A failure is an event, too:
`{{"type": "failed", "reason": "InvalidArgument", "message": …, "field": "plan.width",
"retry_after_s": null}}`.
`latents` are of the shape drawings, channels, rows, columns; `pictures` of the shape drawings,
height, width, channels (RGB or RGBA).

With tritonclient:

```python
import json, queue
import numpy as np, tritonclient.grpc as grpcclient

answers = queue.Queue()
with grpcclient.InferenceServerClient("localhost:8001") as client:
    client.start_stream(lambda result, error: answers.put(error or result))
    order = grpcclient.InferInput("order", [1], "BYTES")
    drawing = {{"prompt": "a red circle", "seed": 1}}
    order.set_data_from_numpy(
        np.array([json.dumps({{"op": "draw", "drawings": [drawing]}}).encode()], dtype=object)
    )
    client.async_stream_infer("NAME", [order])
    while True:
        result = answers.get()
        event = json.loads(result.as_numpy("event")[0])
        print(event["type"], event.get("step"))
        if event["type"] in ("done", "failed"):
            break
    pixels = result.as_numpy("pictures")
```
""".replace('"NAME"', '"the model"')


def _environment(options: ExportOptions) -> str:
    where = "a GPU" if options.gpus else "the processor"
    return f"""
`1/model.py` and `1/lib` hold the code (a copy of this software's engine, readable, no build step);
`1/weights` the pipeline, as diffusers saves it. Triton's environment has to have Python 3.11 or
later with what `requirements.txt` names:

```sh
pip install -r requirements.txt
```

Triton 2.51 loses the outputs of python models under NumPy 2: give it NumPy 1.26 there. It runs on
{where}. Each instance holds the whole pipeline and draws one batch at a time; more instances draw
side by side where memory does for them.
"""
