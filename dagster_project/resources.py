"""The resources of the assets: the home of all artifacts, and MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import dagster as dg

from dagster_project.runs.alive import begin_to_live, tag_with_home
from lwf_assets.progress import SILENT, Progress
from lwf_assets.store.home import Home

if TYPE_CHECKING:
    from dagster_project.tracking.cell_runs import TrackedCell
    from lwf_assets.graph.cells import Cell
    from lwf_assets.study.study import Study


class LwfHome(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder with the store and the databases."""

    root: str

    watch: ClassVar[Callable[[str], Progress]] = lambda label: SILENT
    """Returns the watcher of a cell's progress. The command line, which runs the steps in its own process, sets it."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """A run that has the home is known to be alive; a sensor has it without a run."""
        if context.run_id is not None:
            begin_to_live(self.place(), context.run_id)
            if context.instance is not None:
                tag_with_home(context.instance, self.place(), context.run_id)

    def place(self) -> Home:
        """The home itself."""
        return Home(Path(self.root))

    def progress(self, label: str) -> Progress:
        """The watcher for the cell called `label`."""
        return type(self).watch(label)


class MlflowTracking(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One parent MLflow run per Dagster run, one nested run per asset partition."""

    root: str

    @property
    def uri(self) -> str:
        """MLflow's address. No setting: Dagster would keep it, with a database's password, and show it."""
        from dagster_project.tracking.address import tracking_uri

        return tracking_uri(Home(Path(self.root)))

    @contextmanager
    def cell_run(self, context: dg.AssetExecutionContext, study: Study, cell: Cell) -> Iterator[TrackedCell]:
        """The nested run of one cell, ended with the block: finished, or failed with the reason."""
        from dagster_project.tracking.cell_runs import tracked_cell

        with tracked_cell(self.uri, Home(Path(self.root)), context, study, cell) as tracked:
            yield tracked
