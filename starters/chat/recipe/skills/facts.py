"""A few hundred facts of the world, each asked in many wordings."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, exchange
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.skills.statements import articled, capitalised
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks


def _pairs(text: str) -> dict[str, str]:
    return dict(tuple(part.strip() for part in pair.split(":", 1)) for pair in text.split(";"))  # type: ignore[misc]


CAPITALS: Final = _pairs(
    "France:Paris;Germany:Berlin;Spain:Madrid;Italy:Rome;Portugal:Lisbon;England:London;"
    "Ireland:Dublin;Scotland:Edinburgh;Norway:Oslo;Sweden:Stockholm;Finland:Helsinki;"
    "Denmark:Copenhagen;Iceland:Reykjavik;the Netherlands:Amsterdam;Belgium:Brussels;"
    "Switzerland:Bern;Austria:Vienna;Poland:Warsaw;the Czech Republic:Prague;Hungary:Budapest;"
    "Romania:Bucharest;Bulgaria:Sofia;Greece:Athens;Turkey:Ankara;Ukraine:Kyiv;Russia:Moscow;"
    "Croatia:Zagreb;Serbia:Belgrade;Slovakia:Bratislava;Slovenia:Ljubljana;Estonia:Tallinn;"
    "Latvia:Riga;Lithuania:Vilnius;Egypt:Cairo;Morocco:Rabat;Tunisia:Tunis;Algeria:Algiers;"
    "Kenya:Nairobi;Ghana:Accra;Ethiopia:Addis Ababa;Senegal:Dakar;Nigeria:Abuja;India:New Delhi;"
    "China:Beijing;Japan:Tokyo;South Korea:Seoul;Thailand:Bangkok;Vietnam:Hanoi;"
    "Indonesia:Jakarta;the Philippines:Manila;Malaysia:Kuala Lumpur;Nepal:Kathmandu;"
    "Pakistan:Islamabad;Bangladesh:Dhaka;Iran:Tehran;Iraq:Baghdad;Israel:Jerusalem;"
    "Saudi Arabia:Riyadh;Qatar:Doha;Australia:Canberra;New Zealand:Wellington;Canada:Ottawa;"
    "the United States:Washington;Mexico:Mexico City;Cuba:Havana;Brazil:Brasilia;"
    "Argentina:Buenos Aires;Chile:Santiago;Peru:Lima;Colombia:Bogota;Ecuador:Quito;"
    "Uruguay:Montevideo;Venezuela:Caracas;Bolivia:Sucre;Jamaica:Kingston"
)
_SOUNDS: Final = _pairs(
    "dog:barks;cat:meows;cow:moos;duck:quacks;horse:neighs;sheep:bleats;pig:oinks;lion:roars;"
    "owl:hoots;bee:buzzes;frog:croaks;snake:hisses;wolf:howls;mouse:squeaks;rooster:crows"
)
_YOUNG: Final = _pairs(
    "dog:puppy;cat:kitten;cow:calf;horse:foal;sheep:lamb;pig:piglet;duck:duckling;goose:gosling;"
    "bear:cub;lion:cub;hen:chick;goat:kid;deer:fawn;frog:tadpole;kangaroo:joey;swan:cygnet"
)
_LEGS: Final = _pairs(
    "spider:eight;dog:four;cat:four;bird:two;ant:six;bee:six;horse:four;snake:no;octopus:no;"
    "human:two;beetle:six;cow:four;crab:ten;chicken:two;fly:six;fish:no"
)
_COLOURS: Final = _pairs(
    "sky:blue;grass:green;snow:white;coal:black;blood:red;sun:yellow;banana:yellow;strawberry:red;"
    "carrot:orange;chocolate:brown;leaf:green;milk:white;lemon:yellow;night sky:black;sea:blue;"
    "tomato:red;planet Mars:red;cloud:white;ruby:red;emerald:green"
)
_MIXES: Final = _pairs(
    "red and blue:purple;red and yellow:orange;blue and yellow:green;black and white:grey;"
    "red and white:pink"
)
_FRAMES: Final[dict[str, tuple[str, ...]]] = {
    "capital": (
        "what is the capital of {}?",
        "what's the capital of {}?",
        "which city is the capital of {}?",
        "tell me the capital of {}.",
        "capital of {}?",
        "name the capital of {}.",
        "do you know the capital of {}?",
        "what is the capital city of {}?",
        "the capital of {} is?",
        "can you tell me the capital of {}?",
        "{}: what is the capital?",
    ),
    "country": (
        "which country has {} as its capital?",
        "{} is the capital of which country?",
        "what country is {} the capital of?",
        "of which country is {} the capital?",
    ),
    "sound": (
        "what sound does a {} make?",
        "what does a {} say?",
        "how does a {} sound?",
        "what noise does a {} make?",
    ),
    "young": (
        "what is a baby {} called?",
        "what do you call a young {}?",
        "what is the name of a baby {}?",
        "what's a baby {} called?",
    ),
    "legs": ("how many legs does a {} have?", "how many legs has a {}?", "a {} has how many legs?"),
    "colour": (
        "what colour is the {}?",
        "what color is the {}?",
        "which colour does the {} have?",
        "what is the colour of the {}?",
        "what is the color of the {}?",
    ),
    "mix": (
        "what do {} make?",
        "what colour do you get from {}?",
        "what do you get when you mix {}?",
        "mix {}",
        "which color do {} make?",
    ),
}


def _entries() -> tuple[tuple[str, tuple[str, ...]], ...]:
    entries: list[tuple[str, tuple[str, ...]]] = []

    def add(frame: str, pairs: dict[str, str], answer: str) -> None:
        for key, value in pairs.items():
            entries.append(
                (
                    articled(answer.format(k=key, v=value)),
                    tuple(articled(f.format(key)) for f in _FRAMES[frame]),
                )
            )

    add("capital", CAPITALS, "The capital of {k} is {v}.")
    add("country", {city: land for land, city in CAPITALS.items()}, "{k} is the capital of {v}.")
    add("sound", _SOUNDS, "A {k} {v}.")
    add("young", _YOUNG, "A young {k} is called a {v}.")
    add("legs", _LEGS, "A {k} has {v} legs.")
    add("colour", _COLOURS, "The {k} is {v}.")
    add("mix", _MIXES, "Together {k} make {v}.")
    return tuple(entries)


FAMILIES: Final = _entries()
SINGLES: Final = blocks("world")
_LEADS: Final = (
    "",
    "",
    "",
    "",
    "",
    "hey, ",
    "please tell me: ",
    "question: ",
    "I wonder, ",
    "so, ",
    "quick question: ",
    "hello, ",
    "can you tell me, ",
    "hi! ",
    "my question is: ",
    "ok, ",
)


def asked(source: Source, question: str) -> str:
    """The question with one of many openings, casings and endings."""
    text = source.pick(_LEADS) + question
    roll = source.rng.random()
    text = capitalised(text) if roll < 0.7 else text if roll < 0.85 else text.lower()
    if source.chance(0.25):
        text = text.rstrip("?.")
    return text + source.pick(("", "", "", "", "", " please", " Thanks!", "?"))


def fact(source: Source) -> Example:
    """One fact of the world."""
    answer, questions = source.pick(FAMILIES if source.chance(0.6) else SINGLES)
    return with_style(source, exchange(asked(source, source.pick(questions)), answer), 0.25)
