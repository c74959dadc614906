"""Model directories that would harm whoever loads them: no pickle is read, no code of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
from tiny import save_tiny_model
from world import World, new_world

from lwf_assets.building.materialize import materialize
from lwf_assets.errors import LwfError
from lwf_assets.graph.cells import Cell
from lwf_assets.store.partition import Partition

BASE = Cell("base_model", Partition())


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = new_world(tmp_path)
    save_tiny_model(tmp_path / "hostile")
    world.values["model"]["source"] = {"kind": "directory", "path": str(tmp_path / "hostile")}
    return world


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    return tmp_path / "hostile"


def import_it(world: World) -> None:
    materialize(world.study, world.home.store, BASE)


class Harm:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_weights_are_not_read(world: World, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    with pytest.raises(LwfError, match=r"weights as pickles alone \(pytorch_model\.bin\), which can run code"):
        import_it(world)
    assert not (tmp_path / "harmed").exists()


def test_pickled_weights_beside_others_are_not_read(world: World, folder: Path, tmp_path: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Harm(tmp_path / "harmed")))
    import_it(world)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("own_type", [True, False])
def test_code_that_comes_with_a_model_is_not_run(world: World, folder: Path, tmp_path: Path, own_type: bool) -> None:
    (folder / "modeling_own.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'harmed')!r})\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        name: f"modeling_own.{name}" for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
    }
    if own_type:
        config["model_type"] = "own"
    (folder / "config.json").write_text(json.dumps(config))
    if own_type:
        with pytest.raises(LwfError, match=r"model\.source: .*hostile cannot be loaded"):
            import_it(world)
    else:
        import_it(world)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("size", [2 * 2**30, 2**63, 10])
def test_a_header_that_claims_gigabytes_is_an_error(world: World, folder: Path, size: int) -> None:
    (folder / "model.safetensors").write_bytes(size.to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(LwfError, match=r"model\.source: .*hostile cannot be loaded"):
        import_it(world)


def test_a_link_out_of_the_directory_is_read_and_not_kept(world: World, folder: Path, tmp_path: Path) -> None:
    """As in the hub's cache, where every file is a link."""
    shutil.move(folder / "model.safetensors", tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    (folder / "passwd").symlink_to("/etc/passwd")
    import_it(world)
    artifact = world.home.store.built(BASE.asset, BASE.partition)
    assert not any(path.is_symlink() for path in artifact.path.rglob("*"))
    assert "passwd" not in {path.name for path in artifact.path.iterdir()}
