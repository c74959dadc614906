"""The race: every method on the same samples of one model, in interleaved rounds of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measurement, measure
from benchmarks.methods import METHODS
from benchmarks.methods.method import Method, what_was_said
from benchmarks.models import TINY_VOCABULARY, tiny_model
from benchmarks.plan import Workload
from benchmarks.problem import Problem, mixed_lengths, new_problem, random_samples
from benchmarks.reference import exact_fisher, exact_terms, relative_error
from lwf_assets.cost.free_memory import give_back_what_is_unused

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Say = Callable[[str], None]


def race(model: PreTrainedModel, workloads: Sequence[Workload], say: Say) -> dict[str, Any]:
    """Seconds, ratios to the floor and bytes of every method in every round of every workload, as plain data.

    In each round the floor, this project and the loop run once, in this order. A peer, which may take long, has rounds
    of its own with a floor run just before it. A ratio is always to the floor of the same round.
    """
    methods = [_tried_on_a_tiny_model(method, say) for method in METHODS]
    problem = new_problem(model, [])
    able = {entry["key"] for entry in methods if entry["failure"] is None}
    results = []
    for workload in workloads:
        samples = random_samples(workload.lengths, model.config.vocab_size)
        results.append(_rounds(problem.with_samples(samples), workload, able, methods, say))
    return {"methods": methods, "workloads": results}


def _tried_on_a_tiny_model(method: Method, say: Say) -> dict[str, Any]:
    """What a method is, how exact it is, and why it can not do it if it can not."""
    model = tiny_model("llama")
    problem = new_problem(model, random_samples(mixed_lengths(6, 3, 40), TINY_VOCABULARY))
    entry: dict[str, Any] = {
        "key": method.key,
        "label": method.label,
        "gives": method.gives,
        "remark": method.remark,
        "version": None,
        "error": None,
        "failure": None,
    }
    try:
        entry["version"] = metadata.version(method.package) if method.package else None
        result = method.prepare(problem)()
    except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        entry["failure"] = "not installed" if _is_missing(method, error) else what_was_said(error)
    except Exception as error:  # whatever a peer raises is its row's entry
        if method.package is None:
            raise
        entry["failure"] = what_was_said(error)
    else:
        if method.gives != "gradient":
            exact = exact_fisher(problem) if method.gives == "fisher" else exact_terms(problem)
            entry["error"] = relative_error(result, exact)
    if entry["failure"]:
        say(f"{method.key}: {entry['failure']}")
    return entry


def _is_missing(method: Method, error: ImportError) -> bool:
    """Whether it is the peer itself that is not there, and not something that it asks for."""
    names = {method.key, (method.package or "").replace("-", "_")}
    return isinstance(error, metadata.PackageNotFoundError) or (error.name or "").split(".")[0] in names


def _rounds(
    problem: Problem, workload: Workload, able: set[str], entries: list[dict[str, Any]], say: Say
) -> dict[str, Any]:
    floor, *others = METHODS
    rows: dict[str, dict[str, Any]] = {}
    chunks: dict[str, int] = {}
    floor.prepare(problem)()  # not counted: the first pass over new shapes sets up what the later ones find

    def run(method: Method, floor_seconds: float | None) -> float:
        """One run of one method; a peer that fails here and not on the tiny model is done with."""
        try:
            chunk = chunks.get(method.key)
            if method.chunks and chunk is None:
                chunk = chunks[method.key] = _fastest_chunk(method, problem, say)
            measured, covers = _measured(method, problem.in_chunks(chunk))
        except Exception as error:  # out of memory, say
            if method.package is None:
                raise
            able.discard(method.key)
            next(entry for entry in entries if entry["key"] == method.key)["failure"] = what_was_said(error)
            say(f"{method.key}: {what_was_said(error)}")
            return 0.0
        row = rows.setdefault(
            method.key,
            {"key": method.key, "covers": covers, "chunk": chunk, "seconds": [], "ratios": [], "peak_bytes": []},
        )
        row["seconds"].append(measured.seconds)
        row["ratios"].append(measured.seconds / (floor_seconds or measured.seconds))
        row["peak_bytes"].append(measured.peak_bytes)
        say(f"{workload.name}, {method.key}: {measured.seconds:.2f} s, {row['ratios'][-1]:.2f} of the floor")
        return measured.seconds

    for number in range(max(workload.rounds.values())):
        active = [method for method in others if method.key in able and number < workload.rounds[method.pace]]
        if any(method.pace != "peer" for method in active):
            floor_seconds = run(floor, None)
            for method in active:
                if method.pace != "peer":
                    run(method, floor_seconds)
        for method in active:
            if method.pace == "peer":
                run(method, run(floor, None))
    return {"name": workload.name, "samples": len(problem.samples), "rows": list(rows.values())}


def _fastest_chunk(method: Method, problem: Problem, say: Say) -> int:
    """The size of batches that takes least time on half of the samples; not counted."""
    half = problem.with_samples(problem.samples[::2])
    seconds = {chunk: _measured(method, half.in_chunks(chunk))[0].seconds for chunk in method.chunks}
    tried = ", ".join(f"{value:.2f} s with {chunk}" for chunk, value in seconds.items())
    say(f"{method.key}, samples in a batch: {tried}")
    return min(seconds, key=lambda chunk: seconds[chunk])


def _measured(method: Method, problem: Problem) -> tuple[Measurement, float]:
    """The measurement, and for how large a share of the parameters there is a result."""
    call = method.prepare(problem)
    result, measured = measure(call)
    covers = 1.0
    if method.gives == "fisher":
        covers = sum(v.numel() for v in result.values()) / sum(v.numel() for v in problem.fisher.values())
    del result, call
    give_back_what_is_unused()  # before the next method prepares
    return measured, covers
