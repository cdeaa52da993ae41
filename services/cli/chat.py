"""`penstock chat`: a conversation in the terminal, or one question and its answer."""

import asyncio
import sys
from pathlib import Path

import click
from grpc import aio
from penstock.inference.v1 import message_pb2, sampling_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

from services.cli.catalog import KINDS, list_models, model_id, pick_chat_model
from services.cli.conversation import (
    Answer,
    Conversation,
    parse_tools,
    text_message,
    tool_result,
)
from services.cli.failures import Failure, UsageFailure
from services.cli.session import Session, client_command
from services.cli.transcript import JsonTranscript, Terminal, Transcript

HELP = """\
/help           shows this
/model [ID]     shows the models, or talks to another one
/clear          forgets the conversation
/exit           leaves; so does Ctrl-D
Ctrl-C stops an answer. A line that ends in \\ goes on in the next one."""


@click.command()
@click.option(
    "--model", "-m", help="ID or alias of a chat model. Default: the first that is ready."
)
@click.option("--system", "-s", default="", help="Instructions for the whole conversation.")
@click.option("--once", metavar="TEXT", help="Ask once, print the answer and leave.")
@click.option("--temperature", "-t", type=click.FloatRange(0, 2), help="0 is greedy.")
@click.option("--top-p", type=click.FloatRange(0, 1), help="Nucleus sampling.")
@click.option("--max-tokens", "-n", type=click.IntRange(min=1), help="Longest answer.")
@click.option("--seed", type=int, help="Makes answers repeatable.")
@click.option("--stop", multiple=True, help="Text that ends an answer; may be given again.")
@click.option(
    "--tools",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON file with functions that the model may call; you type their results.",
)
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, help="Seconds per answer.")
@client_command
def chat(
    session: Session,
    model: str | None,
    system: str,
    once: str | None,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int | None,
    seed: int | None,
    stop: tuple[str, ...],
    tools: Path | None,
    timeout: float,
) -> None:
    """Talk to a model.

    Without --once this is a conversation; text that is piped in is one question.
    With --json every event of the stream is one line of JSON.
    """
    sampling = sampling_pb2.Sampling(
        temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed, stop=stop
    )
    conversation = Conversation(
        model=model or "",
        system=system,
        sampling=sampling,
        tools=parse_tools(tools.read_text(encoding="utf-8")) if tools else [],
        timeout_s=timeout,
    )
    if once is None and not sys.stdin.isatty():
        once = sys.stdin.read()
    if once is not None and not once.strip():
        raise UsageFailure("There is no question: the text is empty.")
    with asyncio.Runner() as runner:
        talk = Talk(session, conversation, runner)
        try:
            talk.choose_model()
            if once is None:
                talk.loop()
            else:
                talk.ask([text_message(message_pb2.ROLE_USER, once)])
        finally:
            talk.close()


class Talk:
    """One run of `penstock chat`."""

    def __init__(
        self, session: Session, conversation: Conversation, runner: asyncio.Runner
    ) -> None:
        self._session = session
        self._conversation = conversation
        self._runner = runner
        self._channel = runner.run(self._open())
        self._stub = InferenceServiceStub(self._channel)
        self._transcript: Transcript = (
            JsonTranscript(session.output) if session.output.as_json else Terminal(session.output)
        )

    def close(self) -> None:
        """Closes the channel."""
        self._runner.run(self._channel.close(None))

    def choose_model(self) -> None:
        """Takes the model that was named, or the first that is ready."""
        if not self._conversation.model:
            self._conversation.model = self._runner.run(self._first_ready())

    def ask(self, new: list[message_pb2.Message]) -> Answer:
        """Asks for one answer, shows it and keeps it. Raises Failure or KeyboardInterrupt."""
        answer = Answer()
        self._transcript.begin()
        try:
            self._runner.run(self._run(new, answer))
        except KeyboardInterrupt:
            answer.calls.clear()  # they may be half
            self._conversation.keep(new, answer)
            raise
        finally:
            self._transcript.end(answer)
        self._conversation.keep(new, answer)
        return answer

    def loop(self) -> None:
        """Talks until the person leaves."""
        self._transcript.welcome(self._conversation.model)
        while (line := self._transcript.read("you")) is not None:
            try:
                match line.split():
                    case []:
                        continue
                    case ["/exit" | "/quit", *_]:
                        return
                    case ["/help" | "/?", *_]:
                        self._session.output.say(HELP)
                    case ["/clear", *_]:
                        self._conversation.clear()
                        self._session.output.note("Forgotten.")
                    case ["/model", *rest]:
                        self._model(rest[0] if rest else None)
                    case [word, *_] if word.startswith("/") and "/" not in word[1:]:
                        self._session.output.note(f"There is no {word}. /help lists what there is.")
                    case _:
                        self._turn(line)
            except Failure as failure:
                failure.as_json = self._session.output.as_json
                failure.show()
            except KeyboardInterrupt:
                self._session.output.note("Stopped.")

    def _turn(self, line: str) -> None:
        answer = self.ask([text_message(message_pb2.ROLE_USER, line)])
        while answer.calls:
            results: list[message_pb2.Message] = []
            for _, call in sorted(answer.calls.items()):
                text = self._transcript.read(f"result of {call.name}")
                if not text:
                    self._session.output.note("Not answered: the call is forgotten.")
                    del self._conversation.turns[-2:]
                    return
                results.append(tool_result(call, text))
            answer = self.ask(results)

    def _model(self, name: str | None) -> None:
        models = self._runner.run(self._chat_models())
        if name is None:
            self._transcript.models(models, self._conversation.model)
            return
        if not any(name in known for known in models.values()):
            raise Failure(
                f"There is no chat model {name!r}.",
                hint=f"These are ready: {', '.join(models) or 'none'}.",
            )
        self._conversation.model = name
        self._session.output.note(f"Now talking to {name}.")

    async def _open(self) -> aio.Channel:
        return self._session.channel(self._session.inference)  # belongs to the runner's loop

    async def _run(self, new: list[message_pb2.Message], answer: Answer) -> None:
        with self._session.explained(self._session.inference):
            await self._conversation.run(self._stub, new, answer, self._transcript)

    async def _first_ready(self) -> str:
        async with self._session.models() as stub:
            return pick_chat_model(await list_models(stub))

    async def _chat_models(self) -> dict[str, set[str]]:
        """IDs of the ready chat models, each with all its names."""
        async with self._session.models() as stub:
            models = await list_models(stub, [KINDS["chat"]])
        return {model_id(model): {model_id(model), *model.aliases} for model in models}
