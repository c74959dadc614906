"""The throughput of generation, on a model of no size: every way is run and gives the plain way's responses."""

from __future__ import annotations

from tiny import tiny_llama

from benchmarks.generation_throughput import generation_throughput


def test_every_way_is_measured() -> None:
    lines: list[str] = []
    sizes = {"prompts": 5, "new_tokens": 4, "batch_size": 2}
    found = generation_throughput(tiny_llama(), ways=("plain", "compiled"), say=lines.append, **sizes)
    assert {name: found[name] for name in sizes} == sizes
    assert list(found["ways"]) == ["model.generate", "plain", "compiled"]
    assert all(way["first"] > 0 and way["second"] > 0 for way in found["ways"].values())
    assert [way["same"] for way in found["ways"].values()] == [None, 1, 1]
    assert len(lines) == 3
