"""Our platform without its edge: its models, chats and training, each as a process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import message_pb2, sampling_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.training.v1 import file_pb2, job_pb2
from penstock.training.v1 import training_service_pb2 as training_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from benchmarks.processes import REPOSITORY, Child, ChildError

MODEL = "penstock-starter"
STARTER = REPOSITORY / "starters" / "chat" / "model"
_KEY = "bench-admin-key"
_READY_S = 300.0
_CALL_S = 3600.0
_POLL_S = 0.1
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}
_ENDED = {job_pb2.Job.STATE_SUCCEEDED, job_pb2.Job.STATE_FAILED, job_pb2.Job.STATE_CANCELLED}


class Served:
    """The services, as an admin calls them."""

    def __init__(self, chats: InferenceServiceStub, jobs: TrainingServiceStub) -> None:
        self._chats = chats
        self._jobs = jobs
        self._metadata = (("authorization", f"Bearer {_KEY}"),)

    async def answer(self, model: str, question: str, max_tokens: int = 64) -> str:
        """Asks a model, greedily, as soon as it is loaded."""
        request = _chat(
            model, question, sampling_pb2.Sampling(temperature=0, max_tokens=max_tokens)
        )
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                answer = await self._chats.Chat(request, metadata=self._metadata, timeout=_CALL_S)
                return "".join(part.text for part in answer.choices[0].message.parts)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AWAY or time.monotonic() > deadline:
                    raise ChildError(f"{model} does not answer: {error.details()}") from None
            await asyncio.sleep(_POLL_S)

    async def decode_rate(self, callers: int, new_tokens: int) -> float:
        """Tokens a second that callers get together while they are being answered."""
        rates = await asyncio.gather(*(self._stream(at, new_tokens) for at in range(callers)))
        return sum(rates)

    async def _stream(self, at: int, new_tokens: int) -> float:
        sampling = sampling_pb2.Sampling(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        request = _chat(MODEL, f"Tell me a story about the number {at}.", sampling)
        call = self._chats.StreamChat(request, metadata=self._metadata, timeout=_CALL_S)
        first = last = 0.0
        tokens = 0
        async for event in call:
            if event.HasField("delta"):
                last = time.perf_counter()
                first = first or last
            elif event.HasField("done"):
                tokens = event.done.usage.completion_tokens
        if tokens != new_tokens:
            raise ChildError(f"the chat has {tokens} tokens of {new_tokens}")
        return (tokens - 1) / (last - first)

    async def upload(self, lines: Sequence[str]) -> str:
        """Uploads a training file and returns its name."""
        header = training_pb2.FileHeader(
            filename="company.jsonl", purpose=file_pb2.FILE_PURPOSE_FINE_TUNE
        )
        content = "\n".join(lines).encode()

        async def pieces() -> AsyncIterator[training_pb2.UploadFileRequest]:
            yield training_pb2.UploadFileRequest(header=header)
            yield training_pb2.UploadFileRequest(chunk=content)

        file = await self._jobs.UploadFile(pieces(), metadata=self._metadata, timeout=_CALL_S)
        return file.name

    async def start(self, job: job_pb2.Job) -> str:
        """Starts a job and returns its name."""
        request = training_pb2.StartJobRequest(job=job)
        started = await self._jobs.StartJob(request, metadata=self._metadata, timeout=_CALL_S)
        return started.name

    async def job(self, name: str) -> job_pb2.Job:
        """Looks how a job stands. Raises ChildError for one that has failed."""
        request = training_pb2.GetJobRequest(name=name)
        job = await self._jobs.GetJob(request, metadata=self._metadata, timeout=_CALL_S)
        if job.state == job_pb2.Job.STATE_FAILED:
            raise ChildError(f"the job failed: {job.error.code}: {job.error.message}")
        return job

    async def training(self, name: str, steps: int) -> job_pb2.Job:
        """Waits until a job has made so many steps, or has ended."""
        while True:
            job = await self.job(name)
            if job.step >= steps or job.state in _ENDED:
                return job
            await asyncio.sleep(_POLL_S)

    async def ended(self, name: str) -> job_pb2.Job:
        """Waits until a job has ended."""
        request = training_pb2.WatchJobRequest(name=name)
        kinds = [
            event.WhichOneof("event")
            async for event in self._jobs.WatchJob(
                request, metadata=self._metadata, timeout=_CALL_S
            )
        ]
        if kinds[-1:] == ["finish"]:
            return await self.job(name)
        raise ChildError("the watch of the job broke off")

    async def cancel(self, name: str) -> None:
        """Cancels a job and waits until its worker is gone."""
        request = training_pb2.CancelJobRequest(name=name)
        await self._jobs.CancelJob(request, metadata=self._metadata, timeout=_CALL_S)
        await self.ended(name)


def _chat(model: str, question: str, sampling: sampling_pb2.Sampling) -> inference_pb2.ChatRequest:
    part = message_pb2.Part(text=question)
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    return inference_pb2.ChatRequest(model=model, messages=[message], sampling=sampling)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Served]:
    """Starts the services, with their default settings."""
    config = folder / "penstock.toml"
    config.write_text(
        f'[api.models."{MODEL}"]\npath = {json.dumps(str(STARTER))}\ntype = "chat"\n', "utf-8"
    )
    key = os.open(folder / "admin-key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(key, "w") as file:
        file.write(_KEY)
    arguments = ("--port", "0", "--data-dir", str(folder), "--config", str(config))
    environment = {"PENSTOCK_SERVICE_TOKEN": "bench-service"}
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for service in ("model", "inference", "training"):
            child = await Child.module(
                service,
                f"services.{service}",
                folder,
                *arguments,
                env=environment,
                ready_s=_READY_S,
            )
            stack.push_async_callback(child.stop)
            addresses[service] = child.ready["address"]
            environment["PENSTOCK_SERVICES_MODEL_TARGET"] = addresses["model"]
        chats = grpc.aio.insecure_channel(addresses["inference"])
        await stack.enter_async_context(chats)
        jobs = grpc.aio.insecure_channel(addresses["training"])
        await stack.enter_async_context(jobs)
        yield Served(InferenceServiceStub(chats), TrainingServiceStub(jobs))
