"""What decides the rows of a task, as a JSON object: two equal fingerprints stand for equal rows.

Files enter by content, never by path or time; settings that cannot change the rows at hand do not enter at all, so that
a new test set retrains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lwf_assets.extensions import origin_of
from lwf_assets.tasks.files.formats import ending
from lwf_assets.tasks.files.read import files_of, short_names
from lwf_assets.tasks.hub_source import hub_files
from lwf_assets.tasks.settings import FileSource, GeneratorSource, HubSource, PackagedSource, TaskSettings
from lwf_assets.tasks.sources import carved_splits, own_rows

if TYPE_CHECKING:
    from lwf_assets.tasks.rows import Split

Part = Literal["learning", "test", "prompts"]
HashFile = Callable[[Path], str]


def fingerprint(name: str, settings: TaskSettings, part: Part, hash_file: HashFile) -> dict[str, Any]:
    """Everything that decides the rows of `part`, and nothing else; `name` is the task's, which prompt rows carry."""
    source = settings.source
    decides: dict[str, Any] = {"form": settings.form, "prompt": settings.prompt}
    if settings.chat is not None:
        decides["chat"] = settings.model_dump(mode="json")["chat"]
    if settings.choices_column is not None:  # the prompt may show them, and the target is one of them
        decides["choices"] = settings.choices
    if part == "learning":
        splits: list[Split] = ["train", "validation"]
        decides["target"] = settings.target
    elif part == "test":
        splits = ["test"]
        decides |= {key: getattr(settings, key) for key in ("target", "answer", "choices", "scorer")}
        if (origin := origin_of("lwf.scorers", settings.scorer)) is not None:
            decides["scorer_package"] = origin
        if settings.scorer != "choice":
            decides["stop"] = settings.stop
    else:
        splits = ["train"]
        decides["source_task"] = name
    limits = {split: getattr(settings.rows, split) for split in splits}
    decides["rows"] = limits
    if isinstance(source, PackagedSource):
        decides["source"] = {"kind": source.kind, "rows": source.fingerprint(hash_file)}
        decides["source_package"] = origin_of("lwf.sources", source.kind)
        return decides
    if isinstance(source, GeneratorSource):
        # The generator is code: another release of the package may draw other items from the same seed.
        decides["source"] = {**source.model_dump(mode="json"), "reasoning_gym": _release("reasoning-gym")}
        return decides
    if any(limit is not None for limit in limits.values()):
        decides["seed"] = source.seed
    prompts = source.named("prompts") if part == "prompts" and isinstance(source, FileSource) else None
    if prompts is not None:
        decides["source"] = {"kind": "file", "prompts": _files(prompts, hash_file)}
    else:
        decides["source"] = _source(source, splits, hash_file)
    return decides


@cache
def _release(package: str) -> str:
    return version(package)  # which reads and parses a file each time


def _source(source: HubSource | FileSource, splits: list[Split], hash_file: HashFile) -> dict[str, Any]:
    carved = carved_splits(source)
    described: dict[str, Any] = {"kind": source.kind}
    if isinstance(source, HubSource):
        described |= {"config": source.config, "where": source.where}
        # Only what is given: a study without these keys keeps the fingerprint that it had.
        chosen = {"data_dir": source.data_dir, "data_files": source.data_files, "streaming": source.streaming or None}
        described |= {key: value for key, value in chosen.items() if value is not None}
        if not source.is_local:
            described |= {"id": source.id, "revision": source.revision}
    for split in splits:
        origin: Split = "train" if split in carved else split
        named = own_rows(source, origin)
        if named is None:
            described[split] = None
        elif not isinstance(named, str):
            described[split] = _files(named, hash_file)
        elif isinstance(source, HubSource) and source.is_local:
            files = [_file(file, hash_file) for file in hub_files(source, str(named))]
            described[split] = {"split": named, "files": files}
        else:
            described[split] = named
        if split in carved:
            described[f"{split}_is_part_of_train"] = True
    if "train" in splits:
        described["taken_out_of_train"] = list(carved)
    return described


def _files(named: Sequence[Path], hash_file: HashFile) -> Any:
    """Several files enter by name too, for the ids of their rows begin with it."""
    files = files_of(named)
    described = [_file(file, hash_file) for file in files]
    for file, values in zip(files, described, strict=True):
        if ending(file) != values["suffix"]:  # it is compressed
            values["format"] = ending(file)
    if len(files) == 1:
        return described[0]
    return [{**values, "name": name} for values, name in zip(described, short_names(files), strict=True)]


def _file(path: Path, hash_file: HashFile) -> dict[str, str]:
    # The ending decides how the content is read.
    return {"sha256": hash_file(path), "suffix": path.suffix.lower()}
