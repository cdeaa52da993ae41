"""Writes the README that goes with an exported model."""

from collections.abc import Sequence
from importlib.metadata import version

from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.sections import Layout


def readme(
    title: str, options: ExportOptions, layout: Layout, parts: Sequence[tuple[str, str]]
) -> str:
    """The whole text: what is the same for all models, around the parts of this kind."""
    sections = [
        *parts,
        ("Serving it", _serving(options, layout)),
        ("Queue and batches", _queue(options, layout)),
    ]
    body = "\n\n".join(f"## {name}\n\n{text.strip()}" for name, text in sections)
    written = f"Written by `penstock triton export` of Penstock {version('penstock')}."
    return f"# {options.name}: {title}\n\n{written}\n\n{body}\n"


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tensors(layout: Layout) -> str:
    """Its inputs and outputs as a table."""
    rows = [
        (kind, f"`{one.name}`", one.datatype, str(list(one.dims)), "yes" if one.optional else "")
        for kind, ports in (("input", layout.inputs), ("output", layout.outputs))
        for one in ports
    ]
    return table(rows, ("", "name", "type", "shape", "optional"))


def _serving(options: ExportOptions, layout: Layout) -> str:
    flags = ["--model-repository=/models", "--model-control-mode=explicit"]
    if options.response_cache:
        flags.append("--cache-config local,size=268435456")
    if options.resources:
        flags.append("--rate-limit=execution_count")
        flags += [
            f"--rate-limit-resource={one.name}:{one.count * max(1, options.instances)}"
            for one in options.resources
            if not one.everywhere
        ]
    command = " \\\n    ".join(["tritonserver", *flags])
    text = f"""
```sh
{command}
```

With `--model-control-mode=explicit` the platform's services load and unload models by themselves
(`[triton] manage_models`). In the platform's settings, `[triton] endpoints` names the server's gRPC
address, the model is deployed with the engine `triton`, and its ID there is `{options.name}`, or
`[triton.models.<id>] name = "{options.name}"` says so.
"""
    if options.resources:
        text += """
The rate limiter's resources are counted per device (per server for those marked `global`); the
line above gives as many as the instances of this model need at once: give more, or fewer, to share
a device with other models.
"""
    if layout.backend == "python":
        text += """
The python backend keeps each instance in a process of its own. Give the server memory for what
travels between them: `--shm-size=1g` of the container, or
`--backend-config=python,shm-default-byte-size=16777216`.
"""
    return text


def _queue(options: ExportOptions, layout: Layout) -> str:
    if not layout.max_batch_size:
        return (
            "Triton batches nothing here and hands every request over at once; the model itself "
            "bounds how many wait (`max_waiting` in config.pbtxt) and turns others away."
        )
    rows = [
        ("largest batch", "max_batch_size", str(layout.max_batch_size)),
        ("wait for company", "max_queue_delay_microseconds", str(options.queue_delay_us)),
        ("most that wait", "max_queue_size", str(options.queue_size or "any number")),
        (
            "longest wait",
            "default_timeout_microseconds",
            f"{options.queue_timeout_s:g} s" if options.queue_timeout_s else "for ever",
        ),
        ("after that", "timeout_action", options.timeout_action.upper()),
        ("levels of priority", "priority_levels", str(options.priority_levels or "none")),
        ("response cache", "response_cache", "on" if options.response_cache else "off"),
        ("instances", "instance_group", f"{options.instances} per device"),
    ]
    return table(rows, ("", "field of config.pbtxt", "value")) + (
        "\n\nA request's own parameter `timeout` (microseconds) goes before the longest wait; the "
        "platform sends what is left of the caller's deadline. `[triton.models.<id>] config` lays "
        "JSON over these fields when the model is loaded, without another export."
    )
