"""IDs and names of jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument, NotFound
from services.model.names import check_model_id
from services.training.folder import model_link
from services.training.job_names import (
    checkpoint_model_id,
    checkpoint_name,
    event_name,
    job_name,
    new_checkpoint_id,
    new_event_id,
    new_job_id,
    parse_checkpoint,
    parse_event,
    parse_job,
    result_id,
)

BASES = st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,255}|[A-Za-z0-9]([/:@+]?[A-Za-z0-9]){0,127}", fullmatch=True
)


def test_names_are_read_back() -> None:
    job, event, checkpoint = new_job_id(), new_event_id(), new_checkpoint_id()
    assert re.fullmatch("ftjob-[0-9A-Za-z]{24}", job)
    assert parse_job(job_name(job), "name") == job
    assert parse_event(event_name(job, event), job, "after") == event
    assert parse_checkpoint(checkpoint_name(job, checkpoint), job, "after") == checkpoint


@given(st.text() | st.text().map("trainingJobs/".__add__))
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)) as caught:
        parse_job(name, "name")
    assert caught.value.field == "name"
    job = new_job_id()
    for parse in (parse_event, parse_checkpoint):
        for text in (name, f"trainingJobs/{job}/events/{name}"):
            with pytest.raises(InvalidArgument) as refused:
                parse(text, job, "after")
            assert refused.value.field == "after"


def test_what_belongs_to_another_job_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        parse_event(event_name(new_job_id(), new_event_id()), new_job_id(), "after")


@pytest.mark.parametrize(
    ("base", "organisation", "suffix", "begins"),
    [
        ("base", "local", "", "ft:base:local::"),
        ("base", "local", "hours", "ft:base:local:hours:"),
        ("org/base-7b", "acme", "a b/c:d\0ü.E_-", "ft:org/base-7b:acme:a-b-c-d--.E_-:"),
        ("base", "a:b", "../..", "ft:base:a-b:..-..:"),
        ("ft:base:local:hours:AbCd1234", "acme", "x", "ft:base:acme:x:"),
        ("ft:base:local::AbCd1234:ckpt-step-5", "acme", "x", "ft:base:acme:x:"),
        ("ft:a:b:local::AbCd1234", "acme", "x", "ft:a:b:acme:x:"),
        ("ft:mine", "acme", "x", "ft:ft:mine:acme:x:"),
    ],
)
def test_results_say_what_they_come_from(
    base: str, organisation: str, suffix: str, begins: str
) -> None:
    id = result_id(base, organisation, suffix)
    assert re.fullmatch(re.escape(begins) + "[0-9A-Za-z]{8}", id)


@given(base=BASES, organisation=st.text(min_size=1), suffix=st.text(max_size=64))
def test_every_result_can_be_deployed(base: str, organisation: str, suffix: str) -> None:
    id = result_id(base, organisation, suffix)
    assert len(id) <= 200
    assert check_model_id(id, "x") == id
    checkpoint = checkpoint_model_id(id, 2**62)
    assert check_model_id(checkpoint, "x") == checkpoint
    assert len(model_link(Path(), checkpoint).name) <= 255, "file systems take no longer names"
    # A result of a result, or of its checkpoint, has one base.
    for again in (id, checkpoint):
        nested = result_id(again, organisation, suffix)
        assert nested.rpartition(":")[0] == id.rpartition(":")[0]


def test_no_two_results_are_called_alike() -> None:
    assert len({result_id("base", "local", "") for _ in range(1000)}) == 1000
