"""`/completion` at the root, both forms, over a live edge and a real InferenceService."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.inference.engines.echo_engine import EchoSettings
from tests.integration.gateway.velesio.root_platform import CONTEXT, Root
from tests.integration.inference.inference_platform import served

WHOLE_KEYS = {
    *("content", "tokens", "id_slot", "slot_id", "stop", "multimodal", "model", "prompt"),
    *("stop_type", "stopping_word", "tokens_predicted", "tokens_evaluated", "tokens_cached"),
    *("truncated", "generation_settings", "timings", "index"),
}

LLAMA_KEYS: list[dict[str, Any]] = [
    {"n_predict": 4},
    {"id_slot": 0},
    {"n_keep": 0},
    {"cache_prompt": True},
    {"n_probs": 0},
    {"repeat_penalty": 1},
    {"repeat_last_n": 0},
    {"mirostat": 0},
    {"penalize_nl": False},
    {"typical_p": 1},
    {"grammar": ""},
    {"json_schema": ""},
    {"return_tokens": False},
    {"response_fields": []},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"grammar": 'root ::= "a"'}, "grammar"),
    ({"json_schema": {"type": "object"}}, "json_schema"),
    ({"json_schema": '{"type": "object"}'}, "json_schema"),
    ({"json_schema": {}, "grammar": "root ::= x"}, "grammar"),
    ({"logit_bias": [[97, 1.5]]}, "logit_bias"),
    ({"logit_bias": {"hello": 2}}, "logit_bias"),
    ({"logit_bias": [["a", 1, 2]]}, "logit_bias"),
    ({"logit_bias": 3}, "logit_bias"),
    ({"logit_bias": [[97, 101]]}, "logit_bias"),
    ({"dynatemp_range": 0.5}, "dynatemp_range"),
    ({"xtc_probability": 0.5}, "xtc_probability"),
    ({"post_sampling_probs": True}, "post_sampling_probs"),
    ({"image_data": [{"data": "x", "id": 1}]}, "image_data"),
    ({"n_predict": "5"}, "n_predict"),
    ({"n_predict": -3}, "n_predict"),
    ({"temperature": 3}, "temperature"),
    ({"n_probs": 21}, "n_probs"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", 1, [2]]}, "prompt[1]"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": [[1], [10**6]]}, "prompt[1]"),
    ({"prompt": None}, "prompt"),
    ({"stop": ["x" * 2000]}, "stop"),
    ({"ignore_eos": "yes"}, "ignore_eos"),
]


def llama(prompt: Any = "Hello there", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "n_predict": 5} | more


def frames(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n\n")
    return [json.loads(frame.removeprefix("data: ")) for frame in text[:-2].split("\n\n")]


async def test_documented_form(root: Root) -> None:
    answer = await root.http.post("/completion", json={"prompt": "Hello there"})
    assert answer.status_code == 200, answer.text
    got = answer.json()
    assert got["id"].startswith("cmpl-")
    assert (got["object"], got["model"]) == ("text_completion", "base")
    (choice,) = got["choices"]
    assert choice["finish_reason"] in ("stop", "length")
    usage = got["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] <= 150


async def test_documented_stream_ends_with_done(root: Root) -> None:
    body = {"prompt": "Hello", "stream": True, "max_tokens": 3, "stop": None}
    answer = await root.http.post("/completion", json=body)
    *events, done, empty = answer.text.split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    read = [json.loads(event.removeprefix("data: ")) for event in events]
    assert all(event["object"] == "text_completion" for event in read)
    assert read[-1]["choices"][0] == {
        "text": "",
        "index": 0,
        "logprobs": None,
        "finish_reason": "length",
    }


async def test_any_key_of_llama_chooses_its_form(root: Root) -> None:
    for key in LLAMA_KEYS:
        answer = await root.http.post("/completion", json={"prompt": "abc"} | key)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == WHOLE_KEYS, key


@pytest.mark.parametrize("key", ["messages", "top_k", "stop", "min_p", "seed"])
async def test_other_keys_do_not(root: Root, key: str) -> None:
    more: dict[str, Any] = {"messages": [], "top_k": 3, "stop": [], "min_p": 0.1, "seed": 1}
    body = {"prompt": "abc", "n_predict": None, "grammar": None, key: more[key]}
    answer = await root.http.post("/completion", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "text_completion"


async def test_llama_whole(root: Root) -> None:
    answer = await root.http.post("/completion", json=llama(seed=7, return_tokens=True))
    got = answer.json()
    assert set(got) == WHOLE_KEYS
    assert len(got["content"]) == 5
    assert got["tokens"] == list(got["content"].encode())
    assert (got["stop"], got["stop_type"], got["stopping_word"]) == (True, "limit", "")
    assert (got["id_slot"], got["slot_id"], got["multimodal"]) == (0, 0, False)
    assert (got["model"], got["prompt"]) == ("base", "Hello there")
    assert got["tokens_predicted"] == 5
    assert got["tokens_evaluated"] == len("Hello there")
    settings, timings = got["generation_settings"], got["timings"]
    assert settings["seed"] == 7
    assert settings["n_predict"] == 5
    assert (settings["temperature"], settings["top_k"]) == (0.8, 40)
    assert (settings["top_p"], settings["min_p"]) == (0.95, 0.05)
    assert timings["prompt_n"] + timings["cache_n"] == got["tokens_evaluated"]
    assert timings["predicted_n"] == 5
    assert timings["predicted_ms"] >= 0
    assert timings["prompt_ms"] >= 0


async def test_llama_stream_adds_up_to_the_whole(root: Root) -> None:
    body = llama("A longer text, that is said again.", n_predict=-1, seed=0)
    whole = (await root.http.post("/completion", json=body | {"return_tokens": True})).json()
    answer = await root.http.post("/completion", json=body | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "[DONE]" not in answer.text
    *parts, last = frames(answer.text)
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    for part in parts:
        assert set(part) == {"content", "tokens", "stop", "id_slot", "slot_id", "multimodal"}
        assert part["stop"] is False
    assert last == {
        "content": "",
        "tokens": [],
        "stop": True,
        "id_slot": 0,
        "slot_id": 0,
        "multimodal": False,
        "stop_type": whole["stop_type"],
        "stopping_word": "",
        "tokens_predicted": whole["tokens_predicted"],
        "tokens_evaluated": whole["tokens_evaluated"],
        "truncated": False,
    }
    assert whole["stop_type"] == "eos"


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_is_predicted_when_none_is_wanted(root: Root, stream: bool) -> None:
    answer = await root.http.post("/completion", json=llama(n_predict=0, stream=stream))
    assert answer.status_code == 200, answer.text
    (got,) = frames(answer.text) if stream else [answer.json()]
    assert (got["content"], got["stop"], got["tokens_predicted"]) == ("", True, 0)
    assert got["tokens_evaluated"] == len("Hello there")


async def test_stop_words(root: Root) -> None:
    body = llama("abc END def", n_predict=-1, stop=["", "END", "never"])
    got = (await root.http.post("/completion", json=body)).json()
    assert got["content"] == "abc "
    assert (got["stop_type"], got["stopping_word"]) == ("word", "END")
    *parts, last = frames((await root.http.post("/completion", json=body | {"stream": True})).text)
    assert "".join(part["content"] for part in parts) == "abc "
    assert (last["stop_type"], last["stopping_word"]) == ("word", "END")


@pytest.mark.parametrize(
    ("prompt", "shown", "evaluated"),
    [
        ("ab", "ab", 2),
        ("", "", None),
        ([97, 98], "ab", 2),
        ([97, "bc", 100], "abcd", 4),
        (["a", 98, "c"], "abc", 3),
    ],
)
async def test_prompts(root: Root, prompt: Any, shown: str, evaluated: int | None) -> None:
    got = (await root.http.post("/completion", json=llama(prompt))).json()
    assert got["prompt"] == shown
    if evaluated is not None:
        assert got["tokens_evaluated"] == evaluated


async def test_a_list_of_prompts_gets_a_list(root: Root) -> None:
    body = llama(["ab", [99, 100, 101], ["f", 103]], n_predict=-1, seed=1)
    got = (await root.http.post("/completion", json=body)).json()
    assert [item["index"] for item in got] == [0, 1, 2]
    assert [item["prompt"] for item in got] == ["ab", "cde", "fg"]
    assert [item["content"] for item in got] == ["ab", "cde", "fg"]
    assert [item["tokens_evaluated"] for item in got] == [2, 3, 2]
    assert [item["tokens_predicted"] for item in got] == [3, 4, 3]
    (single,) = (await root.http.post("/completion", json=llama(["ab"]))).json()
    assert single["prompt"] == "ab"
    parts = frames((await root.http.post("/completion", json=body | {"stream": True})).text)
    for index, text in enumerate(["ab", "cde", "fg"]):
        own = [part for part in parts if part["index"] == index]
        assert "".join(part["content"] for part in own) == text
        assert [part["stop"] for part in own] == [False] * (len(own) - 1) + [True]
        assert own[-1]["tokens_evaluated"] == len(text)
        assert own[-1]["tokens_predicted"] == len(text) + 1


async def test_what_the_engine_lacks_is_left_out_with_a_warning(root: Root) -> None:
    body = llama(repeat_penalty=1.3, mirostat=2, mirostat_tau=4, presence_penalty=1)
    for stream in (False, True):
        answer = await root.http.post("/completion", json=body | {"stream": stream})
        assert answer.status_code == 200, answer.text
        for name in ("repeat_penalty", "mirostat", "presence_penalty"):
            assert name in answer.headers["warning"]
    whole = (await root.http.post("/completion", json=body)).json()
    assert whole["generation_settings"]["repeat_penalty"] == 1.0
    assert whole["generation_settings"]["mirostat"] == 0


async def test_refused_fields(root: Root) -> None:
    for more, param in REFUSED:
        answer = await root.http.post("/completion", json=llama() | more)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "invalid_request"
        assert f"'{param}" in error["details"], (more, error)


async def test_neutral_values_of_what_no_engine_does_are_taken(root: Root) -> None:
    neutral = {
        "dynatemp_range": 0.0,
        "dry_multiplier": 0.0,
        "xtc_probability": 0.0,
        "top_n_sigma": -1,
        "t_max_predict_ms": -1,
        "post_sampling_probs": False,
        "lora": [],
        "image_data": [],
        "samplers": ["top_k"],
        "penalty_prompt": "",
        "tfs_z": 1,
        "messages": [],
        "logit_bias": [],
        "grammar": "",
        "stop": [],
    }
    answer = await root.http.post("/completion", json=llama(**neutral))
    assert answer.status_code == 200, answer.text


async def test_more_than_fits_is_cut_to_what_fits(root: Root) -> None:
    body = llama("x" * (CONTEXT - 10), n_predict=256, ignore_eos=True)
    got = (await root.http.post("/completion", json=body)).json()
    assert got["tokens_predicted"] == 10
    assert got["stop_type"] == "limit"
    streamed = frames((await root.http.post("/completion", json=body | {"stream": True})).text)
    assert streamed[-1]["tokens_predicted"] == 10
    answer = await root.http.post("/completion", json=llama("x" * (CONTEXT + 1)))
    assert answer.status_code == 400
    assert "maximum context length" in answer.json()["error"]["message"]


async def test_probabilities(root: Root) -> None:
    body = llama("ab", n_probs=3)
    whole = (await root.http.post("/completion", json=body)).json()
    scores = whole["completion_probabilities"]
    assert [score["id"] for score in scores[:2]] == [97, 98]
    for score in scores:
        assert set(score) == {"id", "token", "bytes", "logprob", "top_logprobs"}
        assert len(score["top_logprobs"]) == 3
    parts = frames((await root.http.post("/completion", json=body | {"stream": True})).text)
    assert [s for part in parts for s in part.get("completion_probabilities", [])] == scores


async def test_chosen_fields(root: Root) -> None:
    fields = ["content", "generation_settings/n_predict", "timings/prompt_n", "nothing", "a/b"]
    got = (await root.http.post("/completion", json=llama(response_fields=fields))).json()
    assert got == {
        "content": got["content"],
        "generation_settings/n_predict": 5,
        "timings/prompt_n": len("Hello there"),
    }


async def test_biased_texts_are_made_tokens(root: Root) -> None:
    answer = await root.http.post("/completion", json=llama(logit_bias=[["ab", False]]))
    # The echo engine takes no bias: what it says shows that the text was taken for one.
    assert answer.status_code == 400
    assert "logit_bias" in answer.json()["error"]["message"]


async def test_equal_seeds_are_told_and_random_ones_too(root: Root) -> None:
    for seed, told in ((0, 0), (5, 5)):
        got = (await root.http.post("/completion", json=llama(seed=seed))).json()
        assert got["generation_settings"]["seed"] == told
    for seed in (-1, 2**32 - 1, None):
        got = (await root.http.post("/completion", json=llama(seed=seed))).json()
        assert 0 <= got["generation_settings"]["seed"] < 2**31


async def test_a_request_that_is_sent_again_is_the_same_work(root: Root) -> None:
    async def seed_of(request_id: str) -> int:
        headers = {"x-request-id": request_id}
        answer = await root.http.post("/completion", json=llama(), headers=headers)
        return answer.json()["generation_settings"]["seed"]

    assert await seed_of("one") == await seed_of("one") != await seed_of("other")


async def test_a_full_queue(root: Root) -> None:
    narrow = await served(
        "narrow", EchoSettings(max_batch_size=1, queue_limit=0, step_interval_s=0.5)
    )
    root.registry.put(narrow)
    body = llama("x" * 400, model="narrow", n_predict=-1)
    async with root.http.stream("POST", "/completion", json=body | {"stream": True}) as running:
        chunks = running.aiter_bytes()  # held: what is collected closes its connection
        await anext(chunks)
        for stream in (False, True):
            answer = await root.http.post("/completion", json=body | {"stream": stream})
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "queue_full"
            assert int(answer.headers["retry-after"]) >= 1
    await narrow.loaded.engine.close()


async def test_a_client_that_leaves_frees_its_place(root: Root) -> None:
    reader, writer = await asyncio.open_connection(root.host, root.port)
    body = llama("x" * 100, model="slow", n_predict=-1, ignore_eos=True, stream=True)
    data = json.dumps(body).encode()
    head = (
        f"POST /completion HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer my-token\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await reader.readuntil(b"data: ")
    engine = root.registry.resolve("slow").loaded.engine
    assert engine.status().running == 1
    writer.close()
    async with asyncio.timeout(10):
        while engine.status().running:  # noqa: ASYNC110 - an engine has no event for it
            await asyncio.sleep(0.01)
