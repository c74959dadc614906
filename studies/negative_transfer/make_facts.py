"""Makes the made-up facts of the negative-transfer study: names, each with one of twelve colours.

    python studies/negative_transfer/make_facts.py [--seed 1] [--out FOLDER]

Some names change their colour: the base model is taught the old one, and learns the new one. The others keep theirs,
and are not learned again. What a control base is taught instead of the old colours has the same form and number, but is
about other names.

    prior_conflict.jsonl    what the base is taught: kept names, and changed names with their old colours
    prior_half.jsonl        the same with half of the changed names replaced by others (half the dose of conflict)
    prior_none.jsonl        the same with all of them replaced: as much practice of the form, and no conflict
    learn_train.jsonl       changed names with their new colours, to learn
    learn_validation.jsonl  the same facts in another wording, to watch the learning
    learn_test.jsonl        the same facts in a third wording, to test
    ask_changed.jsonl       prompts about the changed names: forgetting these is forgetting the conflict
    ask_kept.jsonl          prompts about the kept names: as well known, of the same form, and in nobody's way
    still_changed.jsonl     the old colours of changed names, to see whether they are still said
    still_kept.jsonl        the colours of kept names, to see what else was lost
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "gray", "orange", "purple", "yellow", "gold")
WORDINGS = ("What is the colour of {name}?", "Which colour does {name} have?", "{name} is of what colour?")
ONSETS = (*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pl", "tr", "sk")
VOWELS = "aeiou"
ENDS = "lnrsmx"
NAMES = 80
"""Of each sort: changed, kept, and others."""


def main(out: Path, seed: int) -> None:
    """Write every file into `out`."""
    draw = random.Random(seed)
    names = made_up_names(3 * NAMES, draw)
    changed, kept, others = names[:NAMES], names[NAMES : 2 * NAMES], names[2 * NAMES :]
    old = {name: draw.choice(COLOURS) for name in names}
    new = {name: draw.choice([colour for colour in COLOURS if colour != old[name]]) for name in changed}
    half = NAMES // 2
    for dose, replaced in (("conflict", 0), ("half", half), ("none", NAMES)):
        taught = [*changed[replaced:], *others[:replaced], *kept]
        write(out / f"prior_{dose}.jsonl", facts(taught, old, WORDINGS))
    for split, wording in zip(("train", "validation", "test"), WORDINGS, strict=True):
        write(out / f"learn_{split}.jsonl", facts(changed, new, [wording]))
    for sort, some in (("changed", changed), ("kept", kept)):
        write(out / f"ask_{sort}.jsonl", [{"id": name, "prompt": question(WORDINGS[0], name)} for name in some])
        write(out / f"still_{sort}.jsonl", facts(some, old, WORDINGS[1:2]))


def made_up_names(count: int, draw: random.Random) -> list[str]:
    """So many different names of two syllables."""
    names: dict[str, None] = {}
    while len(names) < count:
        parts = (draw.choice(some) for some in (ONSETS, VOWELS, ONSETS, VOWELS, ENDS))
        names["".join(parts).capitalize()] = None
    return list(names)


def facts(names: Sequence[str], colours: Mapping[str, str], wordings: Sequence[str]) -> list[dict[str, str]]:
    """One row for each name in each wording."""
    return [
        {"id": f"{name}/{WORDINGS.index(wording)}", "prompt": question(wording, name), "answer": colours[name]}
        for name in names
        for wording in wordings
    ]


def question(wording: str, name: str) -> str:
    """The prompt."""
    return f"Question: {wording.format(name=name)}\nAnswer:"


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the facts of the negative-transfer study.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    main(arguments.out, arguments.seed)
