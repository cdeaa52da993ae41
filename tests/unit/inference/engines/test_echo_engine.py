"""What the echo engine says."""

import asyncio

import jinja2
import pytest

from services.errors import InvalidArgument
from services.inference.engine import EndReason, ModelSpec, Token
from services.inference.engines.echo_engine import EchoEngine, EchoLoader, EchoSettings
from services.inference.engines.echo_text import EchoText, echoed
from tests.conformance.recorder import sequence, submit

TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
CALL = {"id": "c", "type": "function", "function": {"name": "now", "arguments": {"zone": "é"}}}
CONVERSATIONS = [
    [{"role": "user", "content": "hi"}],
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "größe?"}],
    [
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "12:00", "tool_call_id": "c"},
    ],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("tools", [[], TOOLS])
@pytest.mark.parametrize("prompted", [True, False])
def test_the_template_says_what_render_does(messages: list, tools: list, prompted: bool) -> None:
    text = EchoText()
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    environment.filters["tojson"] = lambda value: __import__("json").dumps(
        value, ensure_ascii=False
    )
    expected = environment.from_string(text.chat_template).render(
        messages=messages, tools=tools, add_generation_prompt=prompted
    )
    assert text.render(messages, tools, add_generation_prompt=prompted) == expected


def test_it_takes_text_only() -> None:
    with pytest.raises(InvalidArgument):
        EchoText().render([{"role": "user", "content": [{"type": "image"}]}], [])


def test_the_last_message_of_the_user_is_echoed() -> None:
    text = EchoText()
    for messages, answer in zip(CONVERSATIONS, ["hi", "größe?", "time?"], strict=True):
        assert text.decode(echoed(text.encode(text.render(messages, TOOLS)))) == answer
    assert text.decode(echoed(text.encode("Once upon"))) == "Once upon"
    only = text.encode(text.render([{"role": "system", "content": "rules"}], []))
    assert text.decode(echoed(only)) == "rules"


async def test_it_answers_and_ends() -> None:
    loaded = await EchoLoader().load(ModelSpec("e", "1", None), lambda share: None)  # type: ignore[arg-type]
    prompt = loaded.text.encode(loaded.text.render([{"role": "user", "content": "Grüße 😀"}], []))
    recorder = await submit(loaded.engine, sequence(prompt, 100)).until_over()
    assert loaded.text.decode(recorder.tokens()) == "Grüße 😀"
    assert recorder.end().reason is EndReason.EOS
    await loaded.engine.close()


async def test_it_starts_over_where_it_may_not_end() -> None:
    engine = EchoEngine(EchoSettings())
    longer = submit(engine, sequence(list(b"ab"), 99, min_tokens=5))
    forever = submit(engine, sequence(list(b"ab"), 7, ignore_eos=True))
    assert bytes((await longer.until_over()).tokens()) == b"ababa"
    assert bytes((await forever.until_over()).tokens()) == b"abababa"
    await engine.close()


async def test_tokens_per_step_and_interval() -> None:
    engine = EchoEngine(EchoSettings(tokens_per_step=4, step_interval_s=0.02))
    loop = asyncio.get_running_loop()
    start = loop.time()
    recorder = await submit(engine, sequence(list(b"0123456789"), 10)).until_over()
    assert recorder.calls == 3
    assert loop.time() - start >= 0.04
    assert sum(isinstance(event, Token) for event in recorder.events) == 10
    await engine.close()
