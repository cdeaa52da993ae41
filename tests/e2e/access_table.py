"""Who may call which route, with which kind of credential: the whole edge, as one table.

A row is the method and the path (with values for what is a parameter), who may call it, and a body
with which the call gets as far as the question of roles.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

ROLES = ("user", "model_manager", "trainer", "admin", "superadmin")
EVERY = frozenset(ROLES)
MANAGERS = EVERY - {"user", "trainer"}
TRAINERS = EVERY - {"user", "model_manager"}
ADMINS = frozenset({"admin", "superadmin"})

BEARER = frozenset({"bearer"})
KEYED = frozenset({"bearer", "x-api-key"})
BASIC = frozenset({"bearer", "basic"})


class Row(NamedTuple):
    """One route, as it is called."""

    method: str
    path: str
    """Values of parameters stand in braces: `/v1/models/{missing}`."""
    roles: frozenset[str] = EVERY
    body: Any = None

    @property
    def called(self) -> str:
        return self.path.replace("{", "").replace("}", "")


def _rows(paths: str, roles: frozenset[str] = EVERY) -> list[Row]:
    return [Row(*line.split(maxsplit=1), roles) for line in paths.strip().splitlines()]


OPENAI = [
    *_rows("""
        POST /v1/chat/completions
        POST /v1/completions
        POST /v1/responses
        GET /v1/responses/{missing}
        DELETE /v1/responses/{missing}
        POST /v1/responses/{missing}/cancel
        GET /v1/responses/{missing}/input_items
        POST /v1/embeddings
        POST /v1/rerank
        POST /v2/rerank
        POST /v1/images/generations
        POST /v1/images/edits
        POST /v1/images/variations
        GET /v1/vector_stores
        POST /v1/vector_stores
        GET /v1/vector_stores/{missing}
        POST /v1/vector_stores/{missing}
        DELETE /v1/vector_stores/{missing}
        POST /v1/vector_stores/{missing}/search
        GET /v1/vector_stores/{missing}/files
        POST /v1/vector_stores/{missing}/files
        GET /v1/vector_stores/{missing}/files/{missing}
        DELETE /v1/vector_stores/{missing}/files/{missing}
        GET /v1/files
        POST /v1/files
        GET /v1/files/{missing}
        DELETE /v1/files/{missing}
        GET /v1/files/{missing}/content
        GET /v1/batches
        POST /v1/batches
        GET /v1/batches/{missing}
        POST /v1/batches/{missing}/cancel
        POST /v1/predict
        GET /v1/deployments
        GET /v1/deployments/{missing}
        GET /v1/models
        GET /v1/models/{missing}
    """),
    Row("DELETE", "/v1/models/{missing}", MANAGERS),
    Row(
        "POST",
        "/v1/fine_tuning/jobs",
        TRAINERS,
        {"model": "echo", "training_file": "file-missing"},
    ),
    *_rows(
        """
        GET /v1/fine_tuning/jobs
        GET /v1/fine_tuning/jobs/{ftjob-missing}
        POST /v1/fine_tuning/jobs/{ftjob-missing}/cancel
        POST /v1/fine_tuning/jobs/{ftjob-missing}/pause
        POST /v1/fine_tuning/jobs/{ftjob-missing}/resume
        GET /v1/fine_tuning/jobs/{ftjob-missing}/events
        GET /v1/fine_tuning/jobs/{ftjob-missing}/checkpoints
        """,
        TRAINERS,
    ),
    Row("GET", "/openapi.json"),
]

ANTHROPIC = _rows("""
    POST /v1/messages
    POST /v1/messages/count_tokens
""")

VELESIO = _rows("""
    POST /completion
    POST /chat/completions
    POST /apply-template
    GET /template
    POST /template
    POST /tokenize
    POST /detokenize
    GET /props
    POST /props
    POST /slots
    POST /embedding
    POST /embeddings
    GET /models
    GET /queue/status
    GET /
""")

OLLAMA = _rows("""
    POST /api/chat
    POST /chat
    POST /api/generate
    POST /generate
    POST /api/embed
    POST /embed
    POST /api/embeddings
    GET /api/tags
    GET /tags
    GET /api/ps
    POST /api/show
    GET /api/version
    POST /api/pull
    POST /api/push
    POST /api/create
    POST /api/copy
    DELETE /api/delete
    POST /api/blobs/{missing}
""")

OPEN_INFERENCE = _rows("""
    GET /v2
    GET /v2/models/{missing}
    GET /v2/models/{missing}/ready
    POST /v2/models/{missing}/infer
    GET /v2/models/{missing}/versions/{1}
    GET /v2/models/{missing}/versions/{1}/ready
    POST /v2/models/{missing}/versions/{1}/infer
""")

OPEN_INFERENCE_ELSEWHERE = _rows("""
    GET /v2/models/{missing}/config
    GET /v2/models/{missing}/versions/{1}/config
    GET /v2/models/stats
    GET /v2/models/{missing}/stats
    GET /v2/models/{missing}/versions/{1}/stats
    POST /v2/repository/index
    POST /v2/repository/models/{missing}/load
    POST /v2/repository/models/{missing}/unload
    GET /v2/systemsharedmemory/status
    GET /v2/systemsharedmemory/region/{missing}/status
    POST /v2/systemsharedmemory/region/{missing}/register
    POST /v2/systemsharedmemory/unregister
    POST /v2/systemsharedmemory/region/{missing}/unregister
    GET /v2/cudasharedmemory/status
    GET /v2/cudasharedmemory/region/{missing}/status
    POST /v2/cudasharedmemory/region/{missing}/register
    POST /v2/cudasharedmemory/unregister
    POST /v2/cudasharedmemory/region/{missing}/unregister
    GET /v2/trace/setting
    POST /v2/trace/setting
    GET /v2/models/{missing}/trace/setting
    POST /v2/models/{missing}/trace/setting
    GET /v2/logging
    POST /v2/logging
""")
"""Answered with what does instead."""

GEL = _rows("""
    POST /branch/{default/ai/embeddings}
    POST /db/{default/ext/ai/rag}
""")

WEBUI = [
    *_rows("""
        GET /sdapi/v1/progress
        POST /internal/progress
        POST /sdapi/v1/txt2img
        POST /sdapi/v1/img2img
        POST /generate-image
        POST /sdapi/v1/interrupt
        POST /sdapi/v1/skip
        GET /sdapi/v1/options
        POST /sdapi/v1/options
        POST /sdapi/v1/png-info
        GET /sdapi/v1/sd-models
        GET /sdapi/v1/samplers
        GET /sdapi/v1/schedulers
        GET /api/sd-models
        GET /sdapi/v1/scripts
        GET /sdapi/v1/script-info
        GET /sdapi/v1/upscalers
        GET /sdapi/v1/latent-upscale-modes
        GET /sdapi/v1/sd-vae
        GET /sdapi/v1/loras
        GET /sdapi/v1/hypernetworks
        GET /sdapi/v1/face-restorers
        GET /sdapi/v1/realesrgan-models
        GET /sdapi/v1/prompt-styles
        GET /sdapi/v1/extensions
        GET /sdapi/v1/embeddings
        GET /sdapi/v1/cmd-flags
        GET /sdapi/v1/memory
        POST /sdapi/v1/refresh-checkpoints
        POST /sdapi/v1/refresh-vae
        POST /sdapi/v1/unload-checkpoint
        POST /sdapi/v1/reload-checkpoint
        POST /sdapi/v1/interrogate
        POST /sdapi/v1/extra-single-image
        POST /sdapi/v1/extra-batch-images
        POST /sdapi/v1/create/{embedding}
        POST /sdapi/v1/train/{embedding}
    """)
]

BOTSERVER = [
    *_rows("""
        POST /api/v1/ai/inference
        POST /api/v1/ai/chat/completions
        POST /api/v1/ai/embeddings
    """),
    Row(
        "POST",
        "/api/v1/ai/training/start",
        TRAINERS,
        {"base_model": "echo", "dataset": "file-missing"},
    ),
    Row("GET", "/api/v1/ai/training/{ftjob-missing}/status", TRAINERS),
    Row("POST", "/api/v1/ai/training/{ftjob-missing}/cancel", TRAINERS),
    Row("GET", "/api/v1/ai/models", MANAGERS),
    Row(
        "POST",
        "/api/v1/ai/models/deploy",
        MANAGERS,
        {"name": "echo", "source": "echo", "type": "chat"},
    ),
    Row("GET", "/api/v1/ai/models/{missing}", MANAGERS),
    Row("DELETE", "/api/v1/ai/models/{missing}", MANAGERS),
    Row("GET", "/api/v1/ai/models/{missing}/config", ADMINS),
    Row("PUT", "/api/v1/ai/models/{missing}/config", ADMINS, {"config": {"stop": []}}),
]

OPEN = _rows("""
    GET /health
    POST /health
    GET /v2/health/live
    GET /v2/health/ready
""")

TABLE = {
    "openai": (OPENAI, BEARER),
    "anthropic": (ANTHROPIC, KEYED),
    "velesio": (VELESIO, BEARER),
    "ollama": (OLLAMA, BEARER),
    "open_inference": ([*OPEN_INFERENCE, *OPEN_INFERENCE_ELSEWHERE], BEARER),
    "gel": (GEL, BASIC),
    "webui": (WEBUI, BASIC),
    "botserver": (BOTSERVER, KEYED),
}
"""Rows of each dialect, and the kinds of credentials that it takes."""

UNGUARDED = {"/auth/token": "Gel's clients prove there who they are."}
"""Routes that are not rows, and why."""

UNDESCRIBED = {
    ("GET", "/openapi.json"),
    # Answered with why they are not done here.
    *{("POST", f"/api/{what}") for what in ("pull", "push", "create", "copy", "blobs/{}")},
    ("DELETE", "/api/delete"),
    ("POST", "/sdapi/v1/interrogate"),
    ("POST", "/sdapi/v1/extra-single-image"),
    ("POST", "/sdapi/v1/extra-batch-images"),
    ("POST", "/sdapi/v1/create/{}"),
    ("POST", "/sdapi/v1/train/{}"),
    *((row.method, re.sub(r"\{[^}]*\}", "{}", row.path)) for row in OPEN_INFERENCE_ELSEWHERE),
}
"""Rows that the OpenAPI document leaves out."""

DESCRIBED_WITHIN = {
    ("POST", "/branch/{}/ai/embeddings"): ("POST", "/branch/{}"),
    ("POST", "/branch/{}/ai/rag"): ("POST", "/db/{}"),
    ("GET", "/v1/vector_stores/{}/files/{}/content"): ("GET", "/v1/vector_stores/{}/files/{}"),
}
"""What the document says of routes that take more than one thing."""
