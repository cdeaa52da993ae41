"""Our engines, through their port."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.jobs import Job, Times
from benchmarks.engine.number_type import NAME
from services.inference.engine import (
    EngineEvent,
    EngineLoader,
    Grammar,
    GrammarKind,
    GroupRequest,
    LoadedModel,
    ModelSpec,
    SamplingParams,
    SequenceRequest,
    Token,
)

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 200},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 50},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    }
)


class OwnEngine:
    """An engine of Penstock's."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._engine = loaded.engine

    @classmethod
    async def load(cls, loader: EngineLoader, folder: Path) -> "OwnEngine":
        """Loads the model."""
        spec = ModelSpec("bench", "1", folder, context_length=2048, dtype=NAME)
        return cls(await loader.load(spec, lambda share: None))

    async def run(self, jobs: Sequence[Job]) -> Times:
        """Runs jobs and notes when each token comes."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        return list(await asyncio.gather(*(self._one(job, start) for job in jobs)))

    async def _one(self, job: Job, start: float) -> list[float]:
        loop = asyncio.get_running_loop()
        form = None
        if job.guided:
            form = await self._engine.compile(Grammar(GrammarKind.JSON_SCHEMA, SCHEMA))
        await asyncio.sleep(start + job.at_s - loop.time())
        times: list[float] = []
        done = loop.create_future()

        def take(events: Sequence[EngineEvent]) -> None:
            now = loop.time() - start
            times.extend(now for event in events if isinstance(event, Token))
            if len(times) >= job.tokens and not done.done():
                done.set_result(None)
            for event in events:
                error = getattr(event, "error", None)
                if error is not None and not done.done():
                    done.set_exception(error)

        params = SamplingParams(max_tokens=job.tokens, seed=0, temperature=0.0, ignore_eos=not form)
        sequence = SequenceRequest(job.prompt, params, form)
        self._engine.submit(GroupRequest([sequence]), take)
        await done
        return times
