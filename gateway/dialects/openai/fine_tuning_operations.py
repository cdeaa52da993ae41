"""What the dialect serves of fine-tuning, for the OpenAPI document."""

from gateway.dialects.openai import fine_tuning_schema as schema
from gateway.openapi import Operation

_JOBS = "/v1/fine_tuning/jobs"
_JOB = f"{_JOBS}/{{fine_tuning_job_id}}"

FINE_TUNING_OPERATIONS = (
    Operation(
        "post",
        _JOBS,
        "Starts a fine-tuning job.",
        schema.FineTuningJob,
        body=schema.FineTuningJobCreate,
    ),
    Operation(
        "get",
        _JOBS,
        "Lists fine-tuning jobs, newest first.",
        schema.FineTuningJobList,
        query=schema.FineTuningJobsQuery,
    ),
    Operation("get", _JOB, "Gets a fine-tuning job.", schema.FineTuningJob),
    Operation("post", f"{_JOB}/cancel", "Cancels a fine-tuning job.", schema.FineTuningJob),
    Operation("post", f"{_JOB}/pause", "Pauses a fine-tuning job.", schema.FineTuningJob),
    Operation("post", f"{_JOB}/resume", "Lets a paused job go on.", schema.FineTuningJob),
    Operation(
        "get",
        f"{_JOB}/events",
        "Lists what happened to a fine-tuning job, newest first, or streams it as it happens.",
        schema.FineTuningJobEventList,
        query=schema.FineTuningEventsQuery,
        streams=True,
    ),
    Operation(
        "get",
        f"{_JOB}/checkpoints",
        "Lists the checkpoints of a fine-tuning job, newest first.",
        schema.FineTuningJobCheckpointList,
        query=schema.FineTuningCheckpointsQuery,
    ),
)
"""In the order of the routes."""
