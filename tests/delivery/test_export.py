"""`lwf export`: what is written for others, and that it says the truth."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from world import World, copied

from lwf_assets.delivery.export import export
from lwf_assets.delivery.hub import upload
from lwf_assets.disk.hashes import hash_file
from lwf_assets.errors import LwfError
from lwf_assets.lineage.find import find_manifest

CELL = "teeth|sums"


@pytest.fixture(scope="module")
def world(built_once: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A copy: an export writes into the store for a moment, where it makes again what is cheap."""
    return copied(built_once, tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def exported(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = world.home.store
    return export(store, find_manifest(store, CELL), tmp_path_factory.mktemp("export") / "model").folder


def front_matter(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    return values


def test_it_is_an_ordinary_model_directory(exported: Path, world: World) -> None:
    manifest = find_manifest(world.home.store, CELL)
    model = AutoModelForCausalLM.from_pretrained(exported)
    own = AutoModelForCausalLM.from_pretrained(world.home.store.artifact_folder(manifest) / "seed-0")
    for name, tensor in own.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert AutoTokenizer.from_pretrained(exported)("teeth")["input_ids"]
    assert not (exported / "manifest.json").exists()


def test_the_card_says_what_was_made_forgotten_and_measured(exported: Path, world: World) -> None:
    metadata, text = front_matter(exported), (exported / "README.md").read_text()
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-generation"
    measured = {metric["type"]: metric["value"] for metric in metadata["model-index"][0]["results"][0]["metrics"]}
    summary = json.loads((world.artifact("eval_report") / "summary.json").read_text())
    (lwf,) = [entry for entry in summary["models"] if entry["model"] == "lwf"]
    assert measured["target_nll"] == pytest.approx(lwf["measures"]["target_nll"]["mean"], abs=1e-5)
    store = world.home.store
    manifest = find_manifest(store, CELL)
    assert manifest.seal in text
    for cell in ("learning_data[sums]", "forgetting_prompts[teeth]", "base_model"):
        found = find_manifest(store, cell)
        assert (found.seal if cell == "base_model" else found.files[0].sha256) in text, cell
    assert "## What was forgotten, and why" in text
    assert "| teeth " in text
    assert summary["outcome"] in text
    assert "## Limits" in text


def test_the_statement_names_every_file_by_its_hash(exported: Path, world: World) -> None:
    statement = json.loads((exported / "provenance.intoto.json").read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    there = {path.name: hash_file(path) for path in exported.iterdir() if path.name != "provenance.intoto.json"}
    assert subjects == there
    definition = statement["predicate"]["buildDefinition"]
    made_from = {entry["name"]: entry["digest"]["sha256"] for entry in definition["resolvedDependencies"]}
    for cell in ("base_model", "learning_data[sums]", "scored_forget_set[teeth|sums]"):
        assert made_from[cell] == find_manifest(world.home.store, cell).seal
    assert definition["externalParameters"]["cell"] == "lwf_checkpoint[teeth|sums]"


def test_the_lineage_is_that_of_the_audit(exported: Path) -> None:
    events = [json.loads(line) for line in (exported / "lineage.openlineage.jsonl").read_text().splitlines()]
    assert [event["job"]["name"] for event in events][-1] == "lwf_checkpoint[teeth|sums]"


def test_the_bill_names_models_data_and_libraries(exported: Path, world: World) -> None:
    bill = json.loads((exported / "bom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    model = bill["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": find_manifest(world.home.store, CELL).seal}]
    kinds = {part["name"]: part["type"] for part in bill["components"]}
    assert kinds["base_model"] == "machine-learning-model"
    assert kinds["learning_data[sums]"] == "data"
    assert kinds["torch"] == "library"
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert any(ref.startswith("scored_forget_set[teeth|sums]@") for ref in depends[model["bom-ref"]])


def test_nothing_is_written_over_and_nothing_half(built: World, tmp_path: Path) -> None:
    store = built.home.store
    manifest = find_manifest(store, CELL)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    with pytest.raises(LwfError, match="used: is in use"):
        export(store, manifest, tmp_path / "used")
    with pytest.raises(LwfError, match="has no seed 7; its seeds are 0"):
        export(store, manifest, tmp_path / "new", seed=7)
    with pytest.raises(LwfError, match=r"learning_data\[sums\]: is not a checkpoint"):
        export(store, find_manifest(store, "learning_data[sums]"), tmp_path / "new")
    prompts = store.artifact_folder(find_manifest(store, "forgetting_prompts[teeth]")) / "prompts.parquet"
    prompts.chmod(0o644)
    prompts.write_bytes(prompts.read_bytes() + b"x")
    with pytest.raises(LwfError, match="is not as it was recorded, so it is not exported"):
        export(store, manifest, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir() if "export" in path.name or path.name == "new") == []


def test_a_plain_fine_tune_can_be_exported_too(world: World, tmp_path: Path) -> None:
    store = world.home.store
    made = export(store, find_manifest(store, "reference_checkpoint[sums]"), tmp_path / "plain")
    text = (made.folder / "README.md").read_text()
    assert "Nothing was unlearned for this checkpoint." in text


class Hub:
    """A stand-in of the hub's API: it makes repositories and takes commits."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()


@contextmanager
def hub_running(refuses: bool = False) -> Iterator[tuple[Hub, str]]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, values: Any, code: int = 200) -> None:
            body = json.dumps(values).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self.chunked()
            hub.tokens.add(self.headers.get("Authorization"))
            if refuses:
                self.answer({"error": "Invalid credentials"}, 401)
            elif self.path.endswith("/repos/create"):
                hub.created.append(json.loads(body))
                self.answer({"url": f"{address}/owner/mine"})
            elif self.path.endswith("/validate-yaml"):
                self.answer({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                how = {"uploadMode": "regular", "shouldIgnore": False}
                self.answer({"files": [{"path": file["path"], **how} for file in json.loads(body)["files"]]})
            else:
                for line in body.decode().splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self.answer({"commitUrl": f"{address}/owner/mine/commit/abc", "commitOid": "abc", "success": True})

        def chunked(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_GET(self) -> None:
            self.answer({"id": "owner/mine", "sha": "abc", "siblings": []})

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub, address
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


def test_it_is_uploaded_with_the_token_of_the_environment(exported: Path, online: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    with hub_running() as (hub, address):
        online.setattr(huggingface_hub.constants, "ENDPOINT", address)
        online.setenv("HF_ENDPOINT", address)
        upload(exported, "owner/mine")
    assert hub.created[0]["name"] == "mine"
    assert hub.created[0] == {"name": "mine", "organization": "owner", "visibility": "private"}
    assert hub.tokens == {"Bearer hf_of_the_environment"}
    assert {name: len(content) for name, content in hub.files.items()} == {
        path.name: path.stat().st_size for path in exported.iterdir()
    }
    assert hub.files["README.md"] == (exported / "README.md").read_bytes()
    assert all(b"hf_of_the_environment" not in content for content in hub.files.values())


def test_a_hub_that_refuses_is_one_message(exported: Path, online: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    with hub_running(refuses=True) as (_, address):
        online.setattr(huggingface_hub.constants, "ENDPOINT", address)
        with pytest.raises(LwfError, match=r"(?s)--to-hub owner/mine: the hub refused it: .*Set HF_TOKEN"):
            upload(exported, "owner/mine")
