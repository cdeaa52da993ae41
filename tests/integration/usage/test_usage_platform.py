"""The account of what requests used, over processes as they are run: killed, restarted, alone."""

import asyncio
import csv
import io
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from penstock.access.v1 import usage_pb2
from penstock.access.v1 import usage_service_pb2 as service_pb
from penstock.access.v1.usage_service_pb2_grpc import UsageServiceStub
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2, sampling_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from policy.key_secrets import digest
from policy.vouchers import Vouchers
from services.cli.main import main
from services.cli.usage_view import RECORD_COLUMNS
from services.usage.journal import segments
from tests.integration.serving_processes import ADMIN, Processes, run_processes, until_ready

CONFIG = """
[api.models.first]
path = "{folder}"

[api.models.second]
path = "{folder}"

[services.inference]
engine = "echo"
queue_limit = 1000
"""
USERS = ("alice", "bob", "carol")
COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
Group = service_pb.SumUsageRequest


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    tokens = [
        {"id": name, "sha256": digest(f"{name}-token"), "name": name, "roles": ["user"]}
        for name in USERS
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"tokens": tokens}))
    async with run_processes(tmp_path, "inference", CONFIG) as processes:
        yield processes


def who(name: str, request_id: str = "", **more: str) -> list[tuple[str, str]]:
    found = [("authorization", f"Bearer {name}-token")]
    found += [("x-request-id", request_id)] if request_id else []
    return found + [(f"x-penstock-{key}", value) for key, value in more.items()]


def chat(text: str, model: str = "first", **sampling: Any) -> inference_pb.ChatRequest:
    message = message_pb2.Message(role=2, parts=[message_pb2.Part(text=text)])
    return inference_pb.ChatRequest(
        model=model, messages=[message], sampling=sampling_pb2.Sampling(**sampling), user="u"
    )


class Books:
    """What the ledger says."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def all(self, **wanted: Any) -> list[usage_pb2.UsageRecord]:
        request = service_pb.ListUsageRequest(
            filter=service_pb.UsageFilter(**wanted), page_size=10_000
        )
        page = await self._stub.ListUsage(request, metadata=ADMIN, wait_for_ready=True)
        assert not page.next_page_token
        return list(page.records)

    async def has(self, count: int, **wanted: Any) -> list[usage_pb2.UsageRecord]:
        """The records, once there are so many."""
        async with asyncio.timeout(240):
            while True:
                found = await self.all(**wanted)
                if len(found) >= count:
                    break
                await asyncio.sleep(0.05)
        assert len(found) == count
        return found

    async def sums(self, *groups: Any) -> list[usage_pb2.UsageTotal]:
        request = service_pb.SumUsageRequest(group_by=list(groups))
        return list((await self._stub.SumUsage(request, metadata=ADMIN)).totals)


def counts(usage: Any) -> tuple[int, ...]:
    return tuple(getattr(usage, name) for name in COUNTS)


async def retried(call: Callable[[], Any]) -> Any:
    """An answer, as soon as the model serves."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)


async def test_each_request_is_counted_once(processes: Processes) -> None:
    to_model = grpc.aio.insecure_channel(processes.address("model"))
    to_inference = grpc.aio.insecure_channel(processes.address("inference"))
    async with to_model, to_inference:
        books = Books(UsageServiceStub(to_model))
        inference: Any = InferenceServiceStub(to_inference)
        models = ModelServiceStub(to_model)
        for model in ("first", "second"):
            await until_ready(models, model)

        async def ask(text: str, name: str = "alice", id: str = "", **more: Any) -> Any:
            return await retried(
                lambda: inference.Chat(
                    chat(text, **more), metadata=who(name, id), wait_for_ready=True
                )
            )

        # Killed as soon as the client has its answer.
        answers: dict[str, Any] = {}
        for number in range(2):
            id = f"killed-{number}"
            answers[id] = await ask("one two three", id=id)
            await processes.kill("inference")
            await processes.start("inference")
        for record in await books.has(2):
            assert counts(record) == counts(answers[record.request_id].usage)
            assert (record.principal, record.model, record.dialect) == ("alice", "first", "grpc")
            assert (record.outcome, record.user) == (usage_pb2.OUTCOME_OK, "u")
            assert record.method == "penstock.inference.v1.InferenceService/Chat"
            assert record.HasField("start_time")

        # The ledger away, this process killed meanwhile, and both come back. What it serves, it has
        # to have heard before.
        known = inference_pb.GetRuntimeInfoRequest(model="first")
        await retried(lambda: inference.GetRuntimeInfo(known, metadata=who("alice")))
        await processes.kill("model")
        for number in range(4):
            await ask("while it is away", id=f"away-{number}")
        await processes.kill("inference")
        assert segments(processes.folder / "usage")
        await processes.start("model")
        await processes.start("inference")
        await books.has(6)

        # A retry is told twice and kept once; another content is another request.
        for text in ("same", "same", "other"):
            await ask(text, id="again")
        await ask("same", id="again", name="bob")
        assert {record.principal for record in await books.has(3, request_id="again")} == {
            "alice",
            "bob",
        }

        # A stream that its reader leaves: what was made. It is longer than what lies in buffers.
        most = {"max_tokens": 1200, "n": 16}
        call = inference.StreamChat(chat("ab " * 500, **most), metadata=who("carol", "left"))
        words = 0
        while words < 5:
            words += (await call.read()).WhichOneof("event") == "delta"
        call.cancel()
        (left,) = await books.has(1, request_id="left")
        assert left.outcome == usage_pb2.OUTCOME_CANCELLED
        assert words <= left.completion_tokens < 16 * 1200
        assert left.prompt_tokens > 0

        # The dialect is believed of who can prove to be the edge.
        voucher = Vouchers("service-token").make("edge", "alice")
        for metadata in (
            who("alice", "edge", dialect="openai", counted=voucher),
            who("alice", "no-edge", dialect="openai", counted=voucher),
        ):
            await inference.Chat(chat("hello"), metadata=metadata)
        assert (await books.has(1, request_id="edge"))[0].dialect == "openai"
        assert (await books.has(1, request_id="no-edge"))[0].dialect == "grpc"

        # What is refused has no record.
        before = len(await books.all())
        with pytest.raises(grpc.aio.AioRpcError):
            await inference.Chat(chat("hello", model="nobody"), metadata=who("alice"))
        with pytest.raises(grpc.aio.AioRpcError):
            await inference.Chat(chat("hello", temperature=-1), metadata=who("alice"))

        wanted = await random_requests(inference)
        await books.has(before + sum(total["requests"] for total in wanted.values()))
        told = await books.sums(Group.GROUP_BY_PRINCIPAL, Group.GROUP_BY_MODEL)
        everything = await books.all()
        assert len(everything) == sum(total.requests for total in told)
        await sums_are_what_answers_said(books, wanted)

        # Nothing waits any more, also after a stop.
        await processes.kill("inference", 15)
        assert segments(processes.folder / "usage") == []
        await the_command_says_the_same(processes, books)


async def random_requests(inference: Any) -> dict[tuple[str, str], Counter[str]]:
    """Makes some hundred requests; returns what their answers said, by principal and model."""
    chance = random.Random(7)
    told: dict[tuple[str, str], Counter[str]] = {}
    few = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        name, model = chance.choice(USERS), chance.choice(("first", "second"))
        text = " ".join(chance.choice("abcdefg") * chance.randint(1, 9) for _ in range(number % 40))
        sampling = {"max_tokens": chance.randint(1, 60), "n": chance.randint(1, 3)}
        kind = chance.randrange(3)
        metadata = who(name, f"random-{number}")
        async with few:
            if kind == 0:
                answer = await inference.Chat(chat(text, model, **sampling), metadata=metadata)
                usage = answer.usage
            elif kind == 1:
                usage = None
                call = inference.StreamChat(chat(text, model, **sampling), metadata=metadata)
                async for event in call:
                    if event.WhichOneof("event") == "done":
                        usage = event.done.usage
            else:
                prompts = [
                    inference_pb.Prompt(text=text or "x"),
                    inference_pb.Prompt(text="another"),
                ]
                request = inference_pb.CompleteRequest(
                    model=model, prompts=prompts, sampling=sampling_pb2.Sampling(**sampling)
                )
                usage = (await inference.Complete(request, metadata=metadata)).usage
        total = told.setdefault((name, model), Counter())
        total.update({name: getattr(usage, name) for name in COUNTS} | {"requests": 1})

    await asyncio.gather(*(one(number) for number in range(300)))
    return told


async def sums_are_what_answers_said(
    books: Books, wanted: dict[tuple[str, str], Counter[str]]
) -> None:
    found: dict[tuple[str, str], Counter[str]] = {}
    for record in await books.all():
        if record.request_id.startswith("random-"):
            total = found.setdefault((record.principal, record.model), Counter())
            total.update({name: getattr(record, name) for name in COUNTS} | {"requests": 1})
    assert found == wanted
    everything = Counter[str]()
    for record in await books.all():
        everything.update({name: getattr(record, name) for name in COUNTS} | {"requests": 1})
    (total,) = await books.sums()
    assert {name: getattr(total, name) for name in (*COUNTS, "requests")} == everything


async def the_command_says_the_same(processes: Processes, books: Books) -> None:
    """`penstock usage`, as table, CSV and JSON."""

    def run(*words: str, key: str = "admin-token", status: int = 0) -> Result:
        address = ["--model-address", processes.address("model"), "--api-key", key]
        result = CliRunner().invoke(main, ["usage", *words, *address])
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    async def said(*words: str, **more: Any) -> Result:
        return await asyncio.to_thread(run, *words, **more)

    records = await books.all()
    text = (await said("list", "--csv")).stdout
    assert text.splitlines()[0] == (
        "id,start_time,principal,request_id,model,method,dialect,outcome,prompt_tokens,"
        "completion_tokens,cached_tokens,images,queued_ms,ran_ms,user"
    )
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == [record.id for record in records]
    assert sum(int(row["completion_tokens"]) for row in rows) == sum(
        record.completion_tokens for record in records
    )
    first = json.loads((await said("list", "--limit", "1", "--json")).stdout)
    assert [tuple(one) for one in first] == [RECORD_COLUMNS]
    assert first[0]["id"] == records[0].id
    assert first[0]["start_time"].endswith("Z")
    assert "There are more; --limit 1000" in (await said("list", "--limit", "100")).stderr
    assert "carol" in (await said("list", "--request-id", "left")).stdout

    by = ("--by", "model", "--by", "month")
    sums = json.loads((await said("sum", *by, "--principal", "bob", "--json")).stdout)
    wanted = [record for record in records if record.principal == "bob"]
    assert {one["model"] for one in sums} == {record.model for record in wanted}
    assert sum(one["requests"] for one in sums) == len(wanted)
    assert sum(one["prompt_tokens"] for one in sums) == sum(one.prompt_tokens for one in wanted)
    text = (await said("sum", "--by", "day", "--csv")).stdout
    header, *days = text.splitlines()
    assert header == "day,requests,prompt_tokens,completion_tokens,cached_tokens,images"
    assert sum(int(day.split(",")[1]) for day in days) == len(records)
    assert f"{len(records):,}" in (await said("sum")).stdout
    own = json.loads((await said("sum", "--by", "principal", "--json", key="bob-token")).stdout)
    assert [(one["principal"], one["requests"]) for one in own] == [("bob", len(wanted))]
    assert "No request was recorded" in (await said("list", "--until", "2020-01-31")).stderr
    assert (await said("list", "--since", "1h", "--until", "2020-01-31T12:00")).stdout == ""
    refused = await said("sum", "--principal", "alice", key="bob-token", status=1)
    assert "only admins see" in refused.stderr
    for words in (("list", "--since", "yesterday"), ("list", "--csv", "--json")):
        await said(*words, status=2)
