"""Examines the model on instances that training never generated, with greedy decoding.

python -m starters.chat.recipe.exam
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from starters.chat.recipe.conversation import Example, normalise
from starters.chat.recipe.curriculum import SEED, SKILLS, draw
from starters.chat.recipe.rendering import render
from starters.chat.recipe.skills.tools import calls_in
from starters.computing import fast_dtype

MODEL: Final = Path(__file__).parent.parent / "model"
_BATCH: Final = 50
_ANSWER: Final = 240


@dataclass(frozen=True, slots=True)
class Result:
    """How one skill went."""

    skill: str
    asked: int
    right: int
    wrong: tuple[tuple[str, str, str], ...]

    @property
    def share(self) -> float:
        """The share of right answers."""
        return self.right / self.asked


def instances(skill: str, count: int) -> list[Example]:
    """Distinct held-out instances; fewer where the skill has no more."""
    rng = Random(f"{SEED} exam {skill}")
    found: dict[str, Example] = {}
    for _ in range(count * 40):
        example = draw(skill, rng, held_out=True)
        found.setdefault(prompt(example), example)
        if len(found) == count:
            break
    return list(found.values())


def prompt(example: Example) -> str:
    """The text that the model gets."""
    return render(example.messages[:-1], example.tools, prompt=True)


def right(example: Example, said: str) -> bool:
    """Judges an answer."""
    accepted = example.accepted
    if example.judge == "json":
        return _json(said) is not None and _json(said) == _json(accepted[0])
    if example.judge == "call":
        return calls_in(said) == calls_in(accepted[0]) != []
    if example.judge == "story":
        heroes = accepted[0].lower().split("|")
        length = len(said.split())
        return 45 <= length <= 170 and said[-1:] in '.!"' and all(h in said.lower() for h in heroes)
    return normalise(said) in {normalise(text) for text in accepted}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def answers(folder: Path, prompts: list[str]) -> Iterator[str]:
    """Answers prompts greedily, in batches padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=fast_dtype()).eval()
    for start in range(0, len(prompts), _BATCH):
        texts = prompts[start : start + _BATCH]
        given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(**given, max_new_tokens=_ANSWER, do_sample=False)
        for row in made[:, given["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            yield tokenizer.decode(row[:end])


def examine(folder: Path, skill: str, count: int) -> Result:
    """Examines one skill."""
    examples = sorted(instances(skill, count), key=lambda e: len(prompt(e)))
    prompts = [prompt(example) for example in examples]
    said = list(answers(folder, prompts))
    wrong = [
        (asked, "\n".join(example.accepted), text)
        for asked, example, text in zip(prompts, examples, said, strict=True)
        if not right(example, text)
    ]
    return Result(skill, len(examples), len(examples) - len(wrong), tuple(wrong))


def table(results: list[Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| Skill | Instances | Right | Share |", "|---|---:|---:|---:|"]
    lines += [f"| {r.skill} | {r.asked} | {r.right} | {r.share:.1%} |" for r in results]
    asked, correct = sum(r.asked for r in results), sum(r.right for r in results)
    lines.append(f"| **all** | {asked} | {correct} | {correct / asked:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the exam, prints a table and names the skills that stay below the mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=100, help="instances a skill")
    parser.add_argument("--skills", nargs="*", default=list(SKILLS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, help="wrong answers to show a skill")
    parser.add_argument("--mark", type=float, default=0.9, help="the share that passes")
    parser.add_argument("--strict", action="store_true", help="fail where a skill stays below")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    results: list[Result] = []
    for skill in chosen.skills:
        results.append(examine(chosen.model, skill, chosen.count))
        for asked, wanted, said in results[-1].wrong[: chosen.show]:
            print(
                f"--- {skill}\n{asked[-600:]}\n>>> wanted: {wanted}\n>>> said:   {said}\n",
                flush=True,
            )
    print(table(results))
    below = [r.skill for r in results if r.share < chosen.mark]
    if below:
        print(f"\nBelow {chosen.mark:.0%}: {', '.join(below)}")
        if chosen.strict:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
