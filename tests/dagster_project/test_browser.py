"""What a person does in the Dagster UI, in a real browser: look, see what is stale, materialize, follow the links.

`LWF_SCREENSHOTS=docs/images pytest tests/dagster_project/test_browser.py` renews the pictures of the docs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Page, expect, sync_playwright
from servers_at_work import LOOPBACK, free_port, lwf_ui
from world import World, copied

pytestmark = pytest.mark.slow

PATIENCE = 90_000
"""Milliseconds that a page, or a run, may take."""


@pytest.fixture
def world(built_once: World, tmp_path: Path) -> World:
    return copied(built_once, tmp_path)


@pytest.fixture
def dagster(world: World) -> Iterator[str]:
    """`lwf ui` for real; gives Dagster's address. MLflow is where links expect it, unless that is taken."""
    with socket.socket() as probe:
        taken = probe.connect_ex((LOOPBACK, 5000)) == 0
    if taken:
        pytest.skip("port 5000 is in use")
    port = free_port()
    environment = {"LWF_HOME": str(world.home.root), "LWF_STUDY": str(world.file)}
    with lwf_ui(["--dagster-port", str(port)], environment, signal.SIGINT):
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1600, "height": 1000}, device_scale_factor=1.5)
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def picture(page: Page, name: str, *, x: int, y: int, width: int, height: int) -> None:
    """A part of the page for the docs, where `LWF_SCREENSHOTS` names a folder."""
    folder = os.environ.get("LWF_SCREENSHOTS")
    if folder:
        page.mouse.move(0, 0)
        page.wait_for_timeout(2000)
        part: FloatRect = {"x": x, "y": y, "width": width, "height": height}
        page.screenshot(path=Path(folder) / f"{name}.png", clip=part)


def test_look_change_materialize_and_follow_the_links(world: World, dagster: str, page: Page) -> None:
    expect.set_options(timeout=PATIENCE)
    graph = f"{dagster}/locations/learning_with_forgetting/asset-groups/3_forgetting_confidence"

    # The whole graph; then one group of it, with nothing stale.
    page.goto(f"{dagster}/asset-groups")
    expect(page.get_by_text("3_forgetting_confidence").first).to_be_visible()
    page.keyboard.press("Alt+e")  # expands the groups
    expect(page.get_by_text("eval_report").first).to_be_visible()
    page.mouse.move(1400, 300)
    page.mouse.down()
    page.mouse.move(1380, 300)  # away from under the controls
    page.mouse.up()
    picture(page, "assets", x=545, y=115, width=1010, height=805)
    page.goto(graph)
    expect(page.get_by_text("scored_forget_set").first).to_be_visible()
    expect(page.get_by_text("2 / 2 Passed")).to_have_count(2)  # fisher_diagonal and scored_forget_set

    # A change of the study, and the definitions reloaded: marked on all that follows from it.
    world.values["fisher"]["samples"] = 7
    world.file.touch()
    page.get_by_role("button", name="Reload definitions").click()
    expect(page.get_by_text("1 / 2 Passed")).to_have_count(2)
    expect(page.get_by_text("0 / 1 Passed")).to_have_count(1)  # confidence_terms, which has no other check
    picture(page, "stale", x=320, y=400, width=1225, height=310)
    page.goto(f"{dagster}/assets/fisher_diagonal?view=checks")
    page.get_by_text("up_to_date").first.click()
    expect(page.get_by_text("sums: fisher.samples: 8 -> 7")).to_be_visible()

    # One asset made from the UI.
    page.goto(f"{dagster}/assets/fisher_diagonal")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch 1 run").click()
    row = page.get_by_role("row").filter(has=page.get_by_text("samples", exact=True))
    expect(row.first.get_by_text("7", exact=True)).to_be_visible()
    deadline = time.monotonic() + PATIENCE / 1000  # it is fresh as soon as its checks, which come after it, have passed
    while "fisher_diagonal[sums]" in world.stale():
        assert time.monotonic() < deadline
        page.wait_for_timeout(500)

    # Its plot, and its page in MLflow.
    page.get_by_text("[Show Markdown]").first.click()
    plot = page.locator("img[src^='data:image/png']")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") > 200
    picture(page, "fisher", x=312, y=122, width=976, height=636)
    page.keyboard.press("Escape")
    manifest = next(world.home.store.manifests("fisher_diagonal"))
    link = page.locator(f"a[href^='http://127.0.0.1:5000/'][href$='{manifest.provenance['mlflow_run']}']")
    expect(link.first).to_be_visible()
    address = link.first.get_attribute("href")
    assert address is not None
    page.goto(address)
    expect(page.get_by_text("fisher_diagonal[sums]").first).to_be_visible()

    # A build, asked for in the UI, makes the rest; and no mark is left.
    page.goto(f"{dagster}/locations/learning_with_forgetting/jobs/request_build/playground")
    page.get_by_role("button", name="Launch Run").click()
    page.goto(graph)
    expect(page.get_by_text("2 / 2 Passed")).to_have_count(2, timeout=4 * PATIENCE)
    expect(page.get_by_text("1 / 1 Passed")).to_have_count(1)
    assert not {cell for cell in world.stale() if cell.startswith(("confidence", "scored", "fisher"))}
