"""Checks what callers ask for, beyond what the protos say."""

from collections.abc import Collection

from services.errors import (
    DomainError,
    InvalidArgument,
    MissingField,
    NotFound,
    PermissionDenied,
    UnsupportedParameter,
)
from services.training.base_models import BaseModel
from services.training.job_records import DataSource, Dpo, JobSpec, Priority
from services.training.records import Caller

_SHOWN = 80


def check_request(
    spec: JobSpec, request_id: str, caller: Caller, datasets: Collection[str]
) -> None:
    """Checks what can be told without the base model.

    Raises:
        InvalidArgument, MissingField: a field's value makes no sense.
        NotFound: there is no such dataset.
        PermissionDenied: the caller may not ask for that.
    """
    if not request_id.isprintable():
        raise _at(InvalidArgument, "request_id", "must not contain control characters.")
    if not spec.base_model:
        raise _at(MissingField, "job.base_model", "name the model to start from.")
    _check_source(spec.training, "training", datasets)
    if spec.validation is not None:
        _check_source(spec.validation, "validation", datasets)
    if spec.priority is Priority.HIGH and not caller.is_admin:
        raise PermissionDenied(
            "'job.priority': HIGH needs the role 'admin'. Ask for NORMAL, or use a key that has "
            "it.",
            field="job.priority",
            metadata={"required_role": "admin"},
        )


def check_base(spec: JobSpec, base: BaseModel) -> None:
    """Checks whether a base model can be trained so. Raises `UnsupportedParameter`."""
    if isinstance(spec.method, Dpo) and base.kind != "chat":
        raise UnsupportedParameter(
            f"'job.dpo': needs a chat model, for it learns from conversations, and "
            f"{base.id[:_SHOWN]!r} is of the kind {base.kind}.",
            field="job.dpo",
        )
    most = spec.hyperparameters.max_sequence_tokens
    if most is not None and base.context_length and most > base.context_length:
        field = "job.hyperparameters.max_sequence_tokens"
        raise UnsupportedParameter(
            f"'{field}': {base.id[:_SHOWN]!r} has a context of {base.context_length} tokens. Ask "
            "for no more, or leave it out.",
            field=field,
        )


def _check_source(source: DataSource, what: str, datasets: Collection[str]) -> None:
    if source.file_id and source.dataset:
        raise _at(InvalidArgument, f"job.{what}_dataset", f"not together with job.{what}_file.")
    if source.file_id:
        return
    field = f"job.{what}_dataset"
    if not source.dataset:
        raise _at(MissingField, f"job.{what}_file", "name a file or a dataset.")
    if source.dataset not in datasets:
        raise _at(
            NotFound,
            field,
            f"the configuration has no dataset {source.dataset[:_SHOWN]!r}. Name one that it has, "
            f"or upload a file and name that in job.{what}_file.",
        )


def _at(error: type[DomainError], field: str, wrong: str) -> DomainError:
    return error(f"'{field}': {wrong}", field=field)
