"""A little of the campaign, and the page that it writes. All of it is `make campaign`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from campaign.attack import Trial
from campaign.attacks import ATTACKS
from campaign.builds import versions
from campaign.carried_out import carry_out
from campaign.page import PAGE, Tried, keep, write_page
from world import World

SHORT = [attack.name for attack in ATTACKS if attack.few]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_few_of_each(built_once: World, tmp_path: Path, name: str) -> None:
    """Other ones each time: whatever is drawn must be survived. A failure names its seed."""
    seed = random.randrange(10**6)
    tried = carry_out(name, tmp_path, versions(built_once), seed, short=True)
    assert tried.trials
    assert [(trial.what, trial.trouble) for trial in tried.fell] == [], f"seed {seed}"


def test_the_page_says_what_survived_what_did_not_and_what_was_not_tried(tmp_path: Path) -> None:
    trials = [Trial("a"), Trial("b|c", "it broke"), Trial("d", "no such tool: not tried")]
    write_page([Tried("kills", trials, 60.0, 7, "abc1234", "2026-01-01")], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "**1 of 2 trials survived**" in text
    assert f"| {ATTACKS[0].what} | {ATTACKS[0].promise} | 2 | 1 |" in text
    assert "- kills: b\\|c: it broke" in text
    assert "- d: no such tool" in text


def test_the_page_of_the_docs_is_of_all_attacks_and_nothing_fell() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for attack in ATTACKS:
        assert f"| {attack.what} | {attack.promise} |" in text, attack.name
    assert "What did not survive" not in text


def test_one_attack_tried_again_takes_the_place_of_what_it_was(tmp_path: Path) -> None:
    record, page = tmp_path / "record.json", tmp_path / "page.md"
    first, second = ATTACKS[:2]
    old = [Tried(one.name, [Trial("x", "it broke")], 1.0, 1, "abc1234", "2026-01-01") for one in (first, second)]
    keep(old, record, page)
    keep([Tried(first.name, [Trial("y")], 1.0, 2, "def5678", "2026-01-02")], record, page)
    text = page.read_text()
    assert "**1 of 2 trials survived**, 2026-01-02, commits abc1234, def5678, seeds 1, 2" in text
    assert f"- {second.name}: x: it broke" in text
    assert f"- {first.name}:" not in text
