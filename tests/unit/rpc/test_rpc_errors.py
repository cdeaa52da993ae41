"""The tables are complete, and statuses lose nothing."""

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from penstock.errors.v1 import error_reason_pb2

from services import errors
from services.errors import DomainError, Internal, Violation
from services.rpc.errors import STATUS_CODES, from_status, status_code, to_status
from services.tritonserver.failures import EndpointLost

CLASSES = sorted(DomainError.__subclasses__(), key=lambda cls: cls.__name__)


def test_every_domain_error_has_a_status() -> None:
    assert set(STATUS_CODES) == set(DomainError.__subclasses__())


def test_what_one_package_tells_apart_is_one_to_callers() -> None:
    assert status_code(EndpointLost("gone")) is StatusCode.UNAVAILABLE
    for cls in CLASSES:
        for below in cls.__subclasses__():
            assert below.reason == cls.reason
            assert status_code(below("said")) is STATUS_CODES[cls]


def test_every_reason_has_exactly_one_class() -> None:
    names = set(error_reason_pb2.ErrorReason.keys()) - {"ERROR_REASON_UNSPECIFIED"}
    reasons = [cls.reason for cls in CLASSES]
    assert len(reasons) == len(set(reasons))
    assert {f"ERROR_REASON_{reason}" for reason in reasons} == names


def test_the_tree_shows_every_class() -> None:
    assert errors.__doc__ is not None
    for cls in CLASSES:
        assert f"─ {cls.__name__} " in errors.__doc__


def test_codes_are_those_that_the_protos_promise() -> None:
    comments = error_reason_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"]
    assert comments.full_name == "penstock.errors.v1.ErrorReason"
    # Spelled out where the edge tells codes apart.
    assert STATUS_CODES[errors.ContextLengthExceeded] is StatusCode.OUT_OF_RANGE
    assert STATUS_CODES[errors.QueueFull] is StatusCode.RESOURCE_EXHAUSTED
    assert STATUS_CODES[errors.ModelNotReady] is StatusCode.UNAVAILABLE
    assert STATUS_CODES[errors.Conflict] is StatusCode.ABORTED


text = st.text(max_size=40)


@given(
    cls=st.sampled_from(CLASSES),
    message=text,
    violations=st.lists(st.builds(Violation, text.filter(bool), text), max_size=3),
    retry_after_s=st.none() | st.integers(0, 10**6).map(lambda n: n / 1000),
    metadata=st.dictionaries(text.filter(lambda key: key != "param"), text, max_size=3),
)
def test_a_status_carries_an_error_there_and_back(
    cls, message, violations, retry_after_s, metadata
) -> None:
    sent = cls(message, violations=violations, retry_after_s=retry_after_s, metadata=metadata)
    status = status_pb2.Status.FromString(to_status(sent).SerializeToString())
    kinds = [detail.type_url.rpartition(".")[2] for detail in status.details]
    assert kinds.count("ErrorInfo") == 1
    assert ("BadRequest" in kinds) == bool(violations)
    back = from_status(status)
    assert type(back) is cls
    assert back.message == message
    assert back.violations == tuple(violations)
    assert back.field == (violations[0].field if violations else None)
    if retry_after_s is not None:
        assert back.retry_after_s == retry_after_s
    assert dict(metadata).items() <= dict(back.metadata).items()


@pytest.mark.parametrize("cls", [errors.ModelNotReady, errors.RateLimited, errors.QueueFull])
def test_some_errors_always_tell_a_wait(cls: type[DomainError]) -> None:
    wait = from_status(to_status(cls("later"))).retry_after_s
    assert wait is not None
    assert 0 < wait <= 60


@pytest.mark.parametrize("error", [KeyError("secret"), ValueError("/path"), TimeoutError()])
def test_other_exceptions_tell_nothing(error: Exception) -> None:
    status = to_status(error)
    assert status_code(error) is StatusCode.INTERNAL
    assert status.message == "internal error"
    assert b"secret" not in status.SerializeToString()
    assert type(from_status(status)) is Internal


def test_a_foreign_status_becomes_the_nearest_error() -> None:
    for code, cls in (
        (StatusCode.UNAVAILABLE, errors.Unavailable),
        (StatusCode.UNAUTHENTICATED, errors.InvalidCredentials),
        (StatusCode.UNKNOWN, errors.Internal),
        (StatusCode.DATA_LOSS, errors.Internal),
    ):
        status = status_pb2.Status(code=code.value[0], message="m")
        info = error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="example.com")
        status.details.add().Pack(info)
        error = from_status(status)
        assert (type(error), error.message) == (cls, "m")


def test_a_field_alone_is_a_violation() -> None:
    error = errors.InvalidArgument("too big", field="sampling.n")
    assert error.violations == (Violation("sampling.n", "too big"),)
    assert str(error) == "too big"
