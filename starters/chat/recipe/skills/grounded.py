"""Answering from a given context: find the sentence that answers, and copy it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starters.chat.recipe.conversation import Example, Message, assistant, system, user
from starters.chat.recipe.skills.statements import Statement, statement
from starters.chat.recipe.source import Source

NO_ANSWER = "No information available."

_EXPERTS = (
    "You are an expert Q&A system.\nAlways answer questions based on the provided context "
    "information. Never use prior knowledge.\nFollow these additional rules:\n"
    "1. Never directly reference the given context in your answer.\n"
    "2. Never include phrases like 'Based on the context, ...' or any similar phrases in your "
    "responses.\n3. When the context does not provide information about the question, answer with "
    "'No information available.'.",
    "You are an expert question answerer. Use only the given context. If the context lacks the "
    "answer, say 'No information available.'",
    "You are an expert question answerer. Answer only from the given context. When the context "
    "does not have the answer, say: No information available.",
    "You are an expert question answering system. Never use prior knowledge. If the context does "
    'not contain the answer, answer "No information available."',
)
_HELPERS = (
    "Answer the question using only the context.",
    "Use the following context to answer the question.",
    "Answer from the context below. If the answer is not there, say: No information available.",
    "You are a helpful assistant. Answer using only the information below. If it is not there, "
    'reply with "No information available."',
    "You answer questions about the documents below.",
    "Use the documents to answer. Do not make anything up.",
)


_ROLES: Final = (
    "You are an expert question answerer.",
    "You are an expert Q&A system.",
    "You are an expert at answering questions from documents.",
    "You answer questions as an expert.",
    "You are a careful question answering assistant.",
    "You are an expert.",
)
_RULES: Final = (
    "Use only the given context.",
    "Answer only from the context below, never from prior knowledge.",
    "Always answer from the context that you are given.",
    "Never use prior knowledge.",
    "Do not use anything that you know from elsewhere.",
    "Do not mention the context in the answer.",
    "Never write 'based on the context' or anything like it.",
    "Keep the answer short.",
)
_FALLBACKS: Final = (
    "If the context lacks the answer, say `No information available.`",
    "If the context does not hold the answer, say exactly: No information available.",
    'When the answer is not in the context, reply "No information available."',
    "Where the context does not answer the question, say 'No information available.'",
)
_ORDERS: Final = (
    "",
    "\n\nAnswer the query from the context above.",
    "\nGiven the context information above and not prior knowledge, answer the user query.",
    "\n\nNow answer the question.",
    "\n---\nAnswer the query with the context information above.",
)


def _expert(source: Source) -> str:
    """The words of an expert answerer: known ones, or put together from parts."""
    if source.chance(0.35):
        return source.pick(_EXPERTS)
    parts = [source.pick(_ROLES), *source.some(_RULES, source.integer(1, 4))]
    if source.chance(0.85):
        parts.append(source.pick(_FALLBACKS))
    return source.pick((" ", " ", "\n", "\n- ")).join(parts)


@dataclass(frozen=True, slots=True)
class _Problem:
    context: str
    question: str
    answer: str


def _bare(source: Source, problem: _Problem) -> list[str]:
    frame = source.pick(
        (
            "Context: {c}\nQuestion: {q}",
            "Context: {c}\n\nQuestion: {q}",
            "Context:\n{c}\n\nQuestion: {q}",
            "Context: {c} Question: {q}",
            "{c}\n\n{q}",
            "{c}\n{q}",
            "{c} {q}",
            "Context:\n{c}\n\nQuestion: {q}\nAnswer:",
            "Text: {c}\nQuestion: {q}",
            "Read this: {c}\n{q}",
            "Document:\n{c}\n\n{q}",
            "{q}\n\nContext: {c}",
            "{q}\nContext: {c}",
            "Answer from the context.\n\nContext: {c}\n\nQuestion: {q}",
            "Question: {q}\nContext: {c}",
            'Given the context "{c}", {q}',
            "Use the context to answer the question.\nContext: {c}\nQuestion: {q}\nAnswer:",
            "<context>\n{c}\n</context>\n\n{q}",
            "Based on this text: {c}\n\n{q}",
        )
    )
    return ["", frame.format(c=problem.context, q=problem.question)]


def _instructed(source: Source, problem: _Problem) -> list[str]:
    frame = source.pick(
        (
            "{h}\n\n{c}",
            "{h}\n\nContext:\n{c}",
            "{h}\nContext: {c}",
            "{c}\n\n{h}",
            "{h}\n\n<context>\n{c}\n</context>",
            "{h}\n\nDocuments:\n{c}",
            "{c}",
        )
    )
    return [frame.format(h=source.pick(_HELPERS), c=problem.context), problem.question]


def _retrieval(source: Source, problem: _Problem) -> list[str]:
    frame = source.pick(
        (
            "{h}\n\nContext information is below.\n"
            "---------------------\n{c}\n---------------------",
            "{h}\n\nContext:\n{c}",
            "{h}\n\n{c}",
            "{h}\nContext: {c}",
            "{h}\n\nContext information is below:\n{c}\n"
            "Given the context information and not prior knowledge, answer the query.",
        )
    )
    asked = source.pick(
        (
            "Query: {q}\nAnswer: ",
            "Query: {q}\nAnswer: ",
            "Query: {q}\nAnswer:",
            "Query: {q}",
            "{q}",
            "Given the context information above and not prior knowledge, answer the query.\n"
            "Query: {q}\nAnswer: ",
        )
    )
    return [
        frame.format(h=_expert(source), c=problem.context) + source.pick(_ORDERS),
        asked.format(q=problem.question),
    ]


def _separate_message(source: Source, problem: _Problem) -> list[str]:
    if source.chance(0.5):
        return [source.pick(_HELPERS), *_bare(source, problem)[1:]]
    return [
        _expert(source),
        f"Context:\n{problem.context}\n\nQuery: {problem.question}\nAnswer: ",
    ]


def _join(source: Source, sentences: list[str]) -> str:
    style = source.rng.random()
    if style < 0.62 or len(sentences) == 1:
        return " ".join(sentences)
    if style < 0.74:
        return "\n".join(sentences)
    if style < 0.82:
        return "\n".join(f"- {sentence}" for sentence in sentences)
    if style < 0.88:
        return "\n\n".join(sentences)
    if style < 0.94:
        return "\n".join(f"[{i}] {sentence}" for i, sentence in enumerate(sentences, 1))
    cut = source.integer(1, len(sentences) - 1)
    parts = [" ".join(sentences[:cut]), " ".join(sentences[cut:])]
    if source.chance(0.3):
        return "\n".join(json.dumps({"content": part}) for part in parts)
    return source.pick(("\n\n", "\n---\n", "\n")).join(parts)


def _distractors(
    source: Source, target: Statement, count: int, *, near: float = 0.1
) -> list[Statement]:
    """Other statements; some say the same of another subject, or (near) more of this one."""
    others: list[Statement] = []
    for _ in range(count):
        roll = source.rng.random()
        if roll < 0.2:
            others.append(statement(source, relation=target.relation))
        elif roll < 0.2 + near:
            others.append(statement(source, subject=target.subject, kind=target.kind))
        else:
            others.append(statement(source))
    return [s for s in others if (s.relation, s.subject) != (target.relation, target.subject)]


def _size(source: Source, scale: str) -> int:
    if scale == "long":
        return source.integer(12, 40)
    return source.pick((0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6))


def _problem(source: Source, answered: bool, scale: str) -> _Problem:
    target = statement(source)
    size = _size(source, scale)
    question = target.ask(source)
    if not answered:
        others = _distractors(source, target, size, near=0) or [statement(source)]
        return _Problem(_join(source, [each.sentence for each in others]), question, NO_ANSWER)
    sentences = [each.sentence for each in _distractors(source, target, size)]
    sentences.insert(source.integer(0, len(sentences)), target.sentence)
    return _Problem(_join(source, sentences), question, target.sentence)


_LAYOUTS: tuple[Callable[[Source, _Problem], list[str]], ...] = (
    _bare,
    _bare,
    _instructed,
    _retrieval,
    _retrieval,
    _separate_message,
)


def _example(
    source: Source,
    answered: bool,
    scale: str = "short",
    layouts: tuple[Callable[[Source, _Problem], list[str]], ...] = _LAYOUTS,
) -> Example:
    problem = _problem(source, answered, scale)
    instruction, asked = source.pick(layouts)(source, problem)
    head = [system(instruction)] if instruction else []
    return Example(
        [*head, user(asked), assistant(problem.answer)], key=problem.context + problem.question
    )


def answered(source: Source) -> Example:
    """A context of some sentences that holds the answer."""
    return _example(source, answered=True)


def unanswered(source: Source) -> Example:
    """A context that speaks of other subjects, without the answer."""
    return _example(source, answered=False)


def retrieved(source: Source) -> Example:
    """Retrieval-augmented prompts: an expert system message, a context, a query."""
    return _example(source, answered=source.chance(0.8), layouts=(_retrieval,))


def long_context(source: Source) -> Example:
    """The answer stands somewhere in hundreds of tokens."""
    return _example(source, answered=source.chance(0.85), scale="long")


def several_questions(source: Source) -> Example:
    """One context, then several questions about it, one a turn."""
    return _several(source, source.integer(2, 6), source.integer(0, 2))


def many_questions(source: Source) -> Example:
    """The same over a long context: dense practice in finding."""
    return _several(source, source.integer(5, 9), source.integer(2, 30))


def _several(source: Source, asked: int, beside: int) -> Example:
    known = [statement(source) for _ in range(asked)]
    stated = known + _distractors(source, known[0], beside)
    source.rng.shuffle(stated)
    context = _join(source, [each.sentence for each in stated])
    turns: list[Message] = []
    head: list[Message] = []
    follow = "{}"
    for each in source.some(known, source.integer(2, asked)):
        question, answer = each.ask(source), each.sentence
        if source.chance(0.2):
            question, answer = statement(source).ask(source), NO_ANSWER
        if turns:
            turns += [user(follow.format(question)), assistant(answer)]
            continue
        problem = _Problem(context, question, answer)
        instruction, first = source.pick(_LAYOUTS)(source, problem)
        head = [system(instruction)] if instruction else []
        turns = [user(first), assistant(answer)]
        if first.startswith("Query: ") and source.chance(0.7):
            follow = first.replace(question, "{}")
    return Example([*head, *turns], key=context + turns[-2]["content"])
