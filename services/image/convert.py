"""Between the other messages of `penstock.image.v1` and the dataclasses of the domain."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.image.v1 import image_pb2, progress_pb2, sampler_pb2
from penstock.image.v1 import image_service_pb2 as pb
from penstock.inference.v1 import usage_pb2

from services.errors import InvalidArgument
from services.image.checkpoints import Checkpoint
from services.image.convert_requests import from_request
from services.image.defaults import Options
from services.image.events import (
    Event,
    Finish,
    FinishedImage,
    PartialImage,
    Preview,
    Progress,
    Queued,
)
from services.image.requests import OutputFormat
from services.image.samplers import SamplerName, SchedulerName

_OPTIONS = ("model", "vae", "clip_skip", "output_format", "preview_interval_steps")


def from_event(event: Event) -> progress_pb2.ImageEvent:
    """Writes an event of a stream."""
    match event:
        case Queued():
            queued = progress_pb2.Queued(
                job_id=event.job_id,
                model=event.model,
                queue_position=event.queue_position,
                create_time=_time(event.create_time),
            )
            return progress_pb2.ImageEvent(queued=queued)
        case Progress():
            return progress_pb2.ImageEvent(progress=from_progress(event))
        case PartialImage():
            partial = progress_pb2.PartialImage(
                index=event.index,
                partial_index=event.partial_index,
                data=event.data,
                mime_type=event.mime_type,
                width=event.width,
                height=event.height,
            )
            return progress_pb2.ImageEvent(partial=partial)
        case FinishedImage():
            return progress_pb2.ImageEvent(image=from_image(event))
        case Finish():
            return progress_pb2.ImageEvent(finish=from_finish(event))


def from_progress(progress: Progress | None, *, preview: bool = True) -> progress_pb2.Progress:
    """Writes how far a job is; None is a job that isn't known."""
    if progress is None:
        return progress_pb2.Progress()
    message = progress_pb2.Progress(
        job_id=progress.job_id,
        state=progress_pb2.Progress.State.ValueType(progress.state.value),
        queue_position=progress.queue_position,
        batch_index=progress.batch_index,
        batch_count=progress.batch_count,
        step=progress.step,
        step_count=progress.step_count,
        fraction=progress.fraction,
        create_time=_time(progress.create_time),
        skipped=progress.skipped,
    )
    if progress.remaining_s is not None:
        message.remaining_duration.CopyFrom(_duration(progress.remaining_s))
    if progress.start_time is not None:
        message.start_time.CopyFrom(_time(progress.start_time))
    if preview and progress.preview is not None:
        message.preview.CopyFrom(_preview(progress.preview))
    return message


def from_image(image: FinishedImage) -> image_pb2.Image:
    """Writes an image."""
    return image_pb2.Image(
        index=image.index,
        data=image.data,
        mime_type=image.mime_type,
        width=image.width,
        height=image.height,
        seed=image.seed,
        subseed=image.subseed,
        infotext=image.infotext,
    )


def from_finish(finish: Finish) -> progress_pb2.ImageFinish:
    """Writes how a job was drawn."""
    info = Struct()
    info.update(finish.info)
    tokens, timings = finish.prompt_tokens, finish.timings
    return progress_pb2.ImageFinish(
        reason=progress_pb2.ImageFinishReason.ValueType(finish.reason.value),
        image_count=finish.image_count,
        effective_request=from_request(finish.effective_request),
        info=info,
        usage=usage_pb2.Usage(prompt_tokens=tokens, total_tokens=tokens),
        timings=progress_pb2.ImageTimings(
            queue=_duration(timings.queue_s),
            denoise=_duration(timings.denoise_s),
            decode=_duration(timings.decode_s),
        ),
        fingerprint=finish.fingerprint,
    )


def from_answer(
    queued: Queued, images: Sequence[FinishedImage], finish: Finish
) -> pb.ImageResponse:
    """Writes the answer of a call that was not streamed."""
    return pb.ImageResponse(
        job_id=queued.job_id,
        model=queued.model,
        images=[from_image(image) for image in sorted(images, key=lambda image: image.index)],
        finish=from_finish(finish),
    )


def from_checkpoint(checkpoint: Checkpoint) -> sampler_pb2.Checkpoint:
    """Writes a checkpoint."""
    return sampler_pb2.Checkpoint(
        model=checkpoint.model,
        title=checkpoint.title,
        checkpoint_name=checkpoint.name,
        short_hash=checkpoint.short_hash,
        sha256=checkpoint.sha256,
        filename=checkpoint.filename,
        loaded=checkpoint.loaded,
    )


def from_sampler(sampler: SamplerName) -> sampler_pb2.Sampler:
    """Writes a sampler."""
    return sampler_pb2.Sampler(
        name=sampler.name,
        aliases=sampler.aliases,
        options=sampler.options,
        default_scheduler=sampler.default_scheduler,
    )


def from_scheduler(scheduler: SchedulerName) -> sampler_pb2.Scheduler:
    """Writes a sigma schedule."""
    return sampler_pb2.Scheduler(
        name=scheduler.name,
        label=scheduler.label,
        aliases=scheduler.aliases,
        default_rho=scheduler.default_rho,
        need_inner_model=scheduler.need_inner_model,
    )


def from_options(options: Options) -> sampler_pb2.Options:
    """Writes the options."""
    format = options.output_format or OutputFormat.PNG
    return sampler_pb2.Options(
        model=options.model,
        vae=options.vae,
        clip_skip=options.clip_skip,
        output_format=image_pb2.OutputFormat.ValueType(format.value),
        preview_interval_steps=options.preview_interval_steps,
    )


def changed(options: Options, request: pb.SetOptionsRequest) -> Options:
    """Returns options with what a request changes. Raises `InvalidArgument` for unknown fields."""
    given = request.options
    paths = list(request.update_mask.paths)
    for path in paths:
        if path not in _OPTIONS:
            raise InvalidArgument(
                f"'update_mask': there is no option '{path[:64]}'. There is: "
                f"{', '.join(_OPTIONS)}.",
                field="update_mask",
            )
    names = paths or [name for name in _OPTIONS if _is_set(given, name)]
    values: dict[str, Any] = {name: _option(given, name) for name in names}
    return replace(options, **values)


def _option(given: sampler_pb2.Options, name: str) -> Any:
    if name == "output_format":
        return OutputFormat(given.output_format) if given.output_format else None
    if name == "model":
        return given.model
    return getattr(given, name) if given.HasField(name) else None  # pyright: ignore


def _is_set(given: sampler_pb2.Options, name: str) -> bool:
    if name in ("model", "output_format"):
        return bool(getattr(given, name))
    return given.HasField(name)  # pyright: ignore


def _preview(preview: Preview) -> progress_pb2.Preview:
    return progress_pb2.Preview(data=preview.data, mime_type=preview.mime_type, step=preview.step)


def _time(seconds: float) -> Timestamp:
    time = Timestamp()
    time.FromNanoseconds(round(seconds * 1e9))
    return time


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
