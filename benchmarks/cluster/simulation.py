"""A discrete-event simulation of cells on machines that fetch from, and publish to, one object store.

A cell takes a device from its start to its end: first what orchestration costs, then it fetches those files that its
machine does not have, computes, and publishes its own. Only then can the planner know of it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.cluster.network import Network

Decide = Callable[[Sequence[str]], Sequence[str]]
"""Given the cells that ended since it was last asked: the cells to launch now, in this order."""


@dataclass(frozen=True)
class Work:
    """One cell: seconds on a device, the cells whose files it reads, the cells that must have ended before, and the
    bytes of its own files."""

    seconds: float
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    size: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """Machines with devices. Bandwidths are bytes per second: of each machine, both directions together, and of the
    object store for all of them. `cache` is the bytes that a machine keeps; what a cell reads stays until it has ended.

    `orchestration` are the seconds that every cell takes its device for beside its work; `planning` those from asking
    the planner to its answer, and it is asked at most every `tick` seconds. A cell starts where most devices are free;
    `near`: where a device is free and most bytes of what it reads are.
    """

    machines: int
    devices: int = 1
    machine_bandwidth: float = math.inf
    store_bandwidth: float = math.inf
    cache: float = math.inf
    orchestration: float = 0.0
    planning: float = 0.0
    tick: float = 0.0
    near: bool = False


@dataclass
class Outcome:
    """What a simulated build came to. Seconds but for the makespan are sums over cells; `fetched` is how often each
    machine fetched each cell's files."""

    makespan: float = 0.0
    ended: list[str] = field(default_factory=list)
    orchestrating: float = 0.0
    fetching: float = 0.0
    computing: float = 0.0
    publishing: float = 0.0
    bytes_read: float = 0.0
    bytes_fetched: float = 0.0
    bytes_published: float = 0.0
    plannings: int = 0
    fetched: dict[tuple[int, str], int] = field(default_factory=dict)


def critical_path(cells: Mapping[str, Work]) -> float:
    """Seconds of the longest chain of cells that need each other: no number of devices is faster. `cells` has each
    after all that it needs."""
    ends: dict[str, float] = {}
    for name, work in cells.items():
        ends[name] = work.seconds + max((ends[needed] for needed in work.needs), default=0.0)
    return max(ends.values(), default=0.0)


def total_work(cells: Mapping[str, Work]) -> float:
    """Seconds of all cells, one after the other: divided by the devices, no schedule is faster."""
    return sum(work.seconds for work in cells.values())


def simulate(cells: Mapping[str, Work], decide: Decide, cluster: Cluster) -> Outcome:
    """Build `cells` on `cluster`, launching what `decide` says."""
    return _Simulation(cells, decide, cluster).run()


class _Machine:
    """One machine's free devices, and its cache: sizes by name, least recently used first."""

    def __init__(self, number: int, devices: int, limit: float) -> None:
        self.number, self.free, self._limit = number, devices, limit
        self.cache: OrderedDict[str, float] = OrderedDict()
        self.coming: dict[str, list[Callable[[], None]]] = {}
        self._in_use: dict[str, int] = {}

    def use(self, names: Collection[str]) -> None:
        for name in names:
            self._in_use[name] = self._in_use.get(name, 0) + 1
            if name in self.cache:
                self.cache.move_to_end(name)

    def leave(self, names: Collection[str]) -> None:
        for name in names:
            self._in_use[name] -= 1

    def keep(self, name: str, size: float) -> None:
        self.cache[name] = size
        held = sum(self.cache.values()) if math.isfinite(self._limit) else 0.0
        for old in [other for other in self.cache if not self._in_use.get(other)]:
            if held <= self._limit:
                break
            held -= self.cache.pop(old)


class _Simulation:
    def __init__(self, cells: Mapping[str, Work], decide: Decide, cluster: Cluster) -> None:
        self.cells, self.decide, self.cluster = cells, decide, cluster
        self.machines = [_Machine(number, cluster.devices, cluster.cache) for number in range(cluster.machines)]
        self.network = Network(cluster.machine_bandwidth, cluster.store_bandwidth)
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.queue: deque[str] = deque()
        self.news: list[str] = []
        self.is_planning = False
        self.outcome = Outcome()

    def run(self) -> Outcome:
        self._plan()
        while True:
            soonest = self.events[0][0] if self.events else math.inf
            transferred = self.network.next_end()
            if math.isinf(soonest) and math.isinf(transferred):
                return self.outcome
            if transferred <= soonest:
                self.now = transferred
                self.network.advance(self.now)
            else:
                self.now, _, happen = heapq.heappop(self.events)
                happen()

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happen))

    def _plan(self) -> None:
        """Ask the planner, at the next tick, unless it is being asked: it is then asked again after its answer."""
        if self.is_planning:
            return
        self.is_planning = True
        tick = self.cluster.tick
        self._after(math.ceil(self.now / tick) * tick - self.now if tick else 0.0, self._ask)

    def _ask(self) -> None:
        launched = self.decide(self.news)
        self.news = []
        self.outcome.plannings += 1

        def answered() -> None:
            self.is_planning = False
            self.queue.extend(launched)
            self._begin_what_can()
            if self.news:
                self._plan()

        self._after(self.cluster.planning, answered)

    def _begin_what_can(self) -> None:
        while self.queue:
            free = [machine for machine in self.machines if machine.free]
            if not free:
                return
            name = self.queue.popleft()
            machine = max(free, key=lambda one: (self._bytes_there(name, one) if self.cluster.near else 0, one.free))
            machine.free -= 1
            self._begin(name, machine)

    def _bytes_there(self, name: str, machine: _Machine) -> float:
        here = (needed for needed in self.cells[name].reads if needed in machine.cache or needed in machine.coming)
        return sum(self.cells[needed].size for needed in here)

    def _begin(self, name: str, machine: _Machine) -> None:
        work = self.cells[name]
        machine.use(work.reads)
        self.outcome.orchestrating += self.cluster.orchestration
        self._after(self.cluster.orchestration, lambda: self._fetch(name, machine))

    def _fetch(self, name: str, machine: _Machine) -> None:
        """All that is missing, at once. What another cell of the machine is fetching is waited for."""
        began, work = self.now, self.cells[name]
        missing = [needed for needed in work.reads if needed not in machine.cache]
        left = len(missing)
        self.outcome.bytes_read += sum(self.cells[needed].size for needed in work.reads)

        def one_is_here() -> None:
            nonlocal left
            left -= 1
            if not left:
                compute()

        def compute() -> None:
            self.outcome.fetching += self.now - began
            self.outcome.computing += work.seconds
            self._after(work.seconds, lambda: self._publish(name, machine))

        if not missing:
            compute()
        for needed in missing:
            if needed in machine.coming:
                machine.coming[needed].append(one_is_here)
            else:
                machine.coming[needed] = [one_is_here]
                self._bring(needed, machine)

    def _bring(self, name: str, machine: _Machine) -> None:
        size = self.cells[name].size
        key = (machine.number, name)
        self.outcome.bytes_fetched += size
        self.outcome.fetched[key] = self.outcome.fetched.get(key, 0) + 1

        def here() -> None:
            machine.keep(name, size)
            for waiting in machine.coming.pop(name):
                waiting()

        self.network.begin(self.now, machine.number, size, here)

    def _publish(self, name: str, machine: _Machine) -> None:
        began, work = self.now, self.cells[name]

        def published() -> None:
            self.outcome.publishing += self.now - began
            self.outcome.bytes_published += work.size
            self.outcome.ended.append(name)
            self.outcome.makespan = self.now
            machine.leave(work.reads)
            machine.keep(name, work.size)
            machine.free += 1
            self.news.append(name)
            self._begin_what_can()
            self._plan()

        self.network.begin(self.now, machine.number, work.size, published)
