"""Extracting fields from a sentence as JSON; the request names the keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, assistant, system, user
from starters.chat.recipe.source import Source

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class _Field:
    """A value, the keys it may be asked under, and the clauses that say it."""

    keys: tuple[str, ...]
    says: tuple[str, ...]
    value: Callable[[Source], Value]


def _price(source: Source) -> Value:
    whole = source.integer(1, 500)
    return whole if source.chance(0.5) else float(f"{whole}.{source.integer(1, 99):02d}")


_F = _Field
_PERSON: Final = (
    _F(
        ("age", "age", "years"),
        ("is {v} years old", "just turned {v}", "is {v}", "aged {v}"),
        lambda s: s.integer(1, 99),
    ),
    _F(
        ("city", "city", "town", "location", "place"),
        ("lives in {v}", "comes from {v}", "moved to {v}", "is from {v}"),
        lambda s: s.place(),
    ),
    _F(
        ("job", "profession", "occupation"),
        ("works as a {v}", "is a {v}"),
        lambda s: s.pick(words.JOBS),
    ),
    _F(
        ("email", "email", "mail"),
        ("can be reached at {v}", "has the email address {v}", "uses {v}"),
        lambda s: s.email(),
    ),
    _F(
        ("company", "employer"),
        ("works for {v}", "is employed at {v}"),
        lambda s: s.made_up().capitalize(),
    ),
    _F(
        ("phone", "telephone"),
        ("has the phone number {v}", "answers calls at {v}"),
        lambda s: f"{s.integer(100, 999)}-{s.integer(1000, 9999)}",
    ),
    _F(
        ("colour", "color", "favourite_colour"),
        ("likes the colour {v}", "loves {v}"),
        lambda s: s.pick(words.COLOURS),
    ),
    _F(
        ("birthday", "date", "birth_date"),
        ("was born on {v}", "has a birthday on {v}"),
        lambda s: s.date(),
    ),
    _F(("pet", "animal"), ("has a pet {v}", "owns a {v}"), lambda s: s.pick(words.ANIMALS)),
)
_ORDER: Final = (
    _F(
        ("price", "price", "cost", "amount"),
        ("costs {v} euros", "was sold for {v} dollars", "for ${v}", "costs ${v}"),
        _price,
    ),
    _F(
        ("quantity", "count", "number"),
        ("is sold in packs of {v}", "comes {v} to a box"),
        lambda s: s.integer(2, 99),
    ),
    _F(
        ("date", "date", "delivery_date"),
        ("arrives on {v}", "was ordered on {v}"),
        lambda s: s.date(),
    ),
    _F(
        ("customer", "buyer", "client"),
        ("was bought by {v}", "goes to {v}"),
        lambda s: s.full_name(),
    ),
    _F(("city", "store", "place"), ("is sold in {v}", "ships from {v}"), lambda s: s.place()),
    _F(("colour", "color"), ("is {v}", "comes in {v}"), lambda s: s.pick(words.COLOURS)),
    _F(
        ("code", "sku", "order_id", "id"),
        ("has the code {v}", "has the number {v}"),
        lambda s: s.code(),
    ),
    _F(("material",), ("is made of {v}",), lambda s: s.pick(words.MATERIALS)),
    _F(("weight",), ("weighs {v} kilograms", "weighs {v} kg"), lambda s: s.integer(1, 300)),
)
_EVENT: Final = (
    _F(("date", "day", "when"), ("takes place on {v}", "is on {v}"), lambda s: s.date()),
    _F(("time", "start"), ("starts at {v}", "begins at {v}"), lambda s: s.clock()),
    _F(
        ("place", "location", "city", "venue"),
        ("takes place in {v}", "is held in {v}"),
        lambda s: s.place(),
    ),
    _F(("price", "fee"), ("costs {v} euros", "costs ${v}"), _price),
    _F(
        ("host", "organizer", "speaker"),
        ("is hosted by {v}", "is led by {v}"),
        lambda s: s.full_name(),
    ),
    _F(
        ("guests", "participants", "seats"),
        ("has {v} guests", "has room for {v} people"),
        lambda s: s.integer(3, 999),
    ),
)
_KINDS: Final[
    tuple[tuple[tuple[str, ...], Callable[[Source], str], tuple[_Field, ...], str], ...]
] = (
    (("name", "name", "name", "person"), lambda s: s.full_name(), _PERSON, "{v}"),
    (("product", "item", "name", "product"), lambda s: s.item(), _ORDER, "The {v}"),
    (("event", "title", "name"), lambda s: s.item(), _EVENT, "The {v}"),
)
_REQUESTS: Final = (
    "Extract the {keys} as JSON: {text}",
    "Extract {keys} from this text as JSON: {text}",
    "Extract the {keys} from the sentence and answer in JSON.\n{text}",
    "Extract the {keys} from the following text. Reply with JSON only.\n\n{text}",
    "Return a JSON object with the keys {keys} for: {text}",
    "{text}\nReturn JSON with the keys {keys}.",
    "{text}\n\nExtract {keys} as JSON.",
    "Give me {keys} as JSON. Text: {text}",
    "Turn this into JSON with {keys}: {text}",
    "Text: {text}\nKeys: {keys}\nJSON:",
    "JSON with {keys} please: {text}",
    'Extract the {keys} from: "{text}". Reply as JSON.',
    "Extract JSON with keys {keys}: {text}",
    "Parse this into JSON with the fields {keys}.\n{text}",
    "extract {keys} as json: {text}",
    "Read the text and fill in {keys} as JSON.\nText: {text}",
    "Extract the {keys} of the text: {text}",
)
_SYSTEMS: Final = (
    "Extract the {keys} from the user's text as JSON.",
    "Reply with a JSON object with {keys}.",
    "You extract data. Answer only with JSON. Keys: {keys}.",
    "Return JSON with the keys {keys}.",
    "You are a JSON extractor. Fields: {keys}.",
)


def _listed(source: Source, keys: list[str]) -> str:
    style = source.rng.random()
    if style < 0.2:
        keys = [f'"{key}"' for key in keys]
    elif style < 0.3:
        keys = [f"`{key}`" for key in keys]
    if style > 0.85:
        return ", ".join(keys)
    joint = source.pick((" and ", " and ", ", and ")) if len(keys) > 2 else " and "
    return joint.join((", ".join(keys[:-1]), keys[-1])) if len(keys) > 1 else keys[0]


def _sentence(source: Source, subject: str, clauses: list[str]) -> str:
    if len(clauses) == 1:
        return f"{subject} {clauses[0]}."
    style = source.rng.random()
    if style < 0.6:
        return f"{subject} {', '.join(clauses[:-1])} and {clauses[-1]}."
    again = "It" if subject.startswith("The ") else source.pick(("He", "She"))
    cut = source.integer(1, len(clauses) - 1)
    return f"{subject} {' and '.join(clauses[:cut])}. {again} {' and '.join(clauses[cut:])}."


def _dump(values: Mapping[str, Value]) -> str:
    return json.dumps(values, ensure_ascii=False)


def extraction(source: Source) -> Example:
    """Asks for some of the fields of a sentence, in any order; a missing one is null."""
    names, head, fields, frame = source.pick(_KINDS)
    subject_key = source.pick(names)
    subject: Value = head(source)
    values: dict[str, Value] = {subject_key: subject}
    clauses: list[str] = []
    chosen = source.some(fields, source.pick((1, 2, 2, 2, 3, 3, 4)))
    for entry in chosen:
        free = [key for key in entry.keys if key not in values]
        if not free:
            continue
        value = entry.value(source)
        values[source.pick(free)] = value
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        clauses.append(source.pick(entry.says).format(v=shown))
    text = _sentence(source, frame.format(v=subject), clauses)
    wanted = list(values)
    if source.chance(0.3):
        source.rng.shuffle(wanted)
    if source.chance(0.25) and len(wanted) > 1:
        wanted = wanted[:-1]
    found = {key: values[key] for key in wanted}
    if source.chance(0.08):
        absent = [f for f in fields if f not in chosen and f.keys[0] not in values]
        if absent:
            found[source.pick(absent).keys[0]] = None
    keys = _listed(source, list(found))
    answer = assistant(_dump(found))
    if source.chance(0.2):
        return Example(
            [system(source.pick(_SYSTEMS).format(keys=keys)), user(text), answer],
            judge="json",
            key=text + keys,
        )
    asked = source.pick(_REQUESTS).format(keys=keys, text=text)
    return Example([user(asked), answer], judge="json", key=text + keys)
