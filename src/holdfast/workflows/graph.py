"""The order of steps: who may start, who waits for whom, and where a circle is. Pure and iterative.

Nodes are ids; an edge says "needs". Ids that are needed but not nodes are ignored here: the definition's
reader reports them with the nearest right name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence


class Graph:
    """An immutable dependency graph: `needs[id]` are the ids that have to end before `id` may start.

    The order of nodes is the order of the mapping, and everything returned keeps it.
    """

    __slots__ = ("_dependants", "_needs", "_order")

    def __init__(self, needs: Mapping[str, Iterable[str]]) -> None:
        self._needs = {
            node: tuple(dict.fromkeys(each for each in wanted if each in needs))
            for node, wanted in needs.items()
        }
        self._dependants: dict[str, list[str]] = {node: [] for node in self._needs}
        for node, wanted in self._needs.items():
            for each in wanted:
                self._dependants[each].append(node)
        self._order = self._sort()

    @property
    def order(self) -> Sequence[str]:
        """A topological order; the nodes on circles, and those behind them, are missing from it."""
        return self._order

    def needs(self, node: str) -> Sequence[str]:
        """What `node` needs directly."""
        return self._needs[node]

    def dependants(self, node: str) -> Sequence[str]:
        """What needs `node` directly."""
        return self._dependants[node]

    def ancestors(self, node: str) -> frozenset[str]:
        """All that `node` needs, directly or through others. Costs one walk over them."""
        found: set[str] = set()
        waiting = list(self._needs[node])
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting.extend(self._needs[each])
        return frozenset(found)

    def cycle(self) -> list[str] | None:
        """One circle as the path of its ids, the first repeated at the end, or None: `[a, b, c, a]`."""
        sorted_nodes = set(self._order)
        start = next((node for node in self._needs if node not in sorted_nodes), None)
        if start is None:
            return None
        # Whatever was not sorted needs something else that was not sorted: going on must come round.
        seen: dict[str, int] = {}
        trail: list[str] = []
        node = start
        while node not in seen:
            seen[node] = len(trail)
            trail.append(node)
            node = next(each for each in self._needs[node] if each not in sorted_nodes)
        return [*trail[seen[node] :], node]

    def _sort(self) -> list[str]:
        readiness = Readiness(self)
        order: list[str] = []
        ready = deque(readiness.start())
        while ready:
            node = ready.popleft()
            order.append(node)
            ready.extend(readiness.done(node))
        return order


class Readiness:
    """Which nodes may start, as others end. One per execution; each node is handed out once."""

    __slots__ = ("_graph", "_open")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._open = {node: len(wanted) for node, wanted in graph._needs.items()}

    def start(self) -> list[str]:
        """The nodes that need nothing."""
        return [node for node, count in self._open.items() if count == 0]

    def done(self, node: str) -> list[str]:
        """Note the end of `node`; the nodes that may start because of it."""
        ready = []
        for dependant in self._graph.dependants(node):
            self._open[dependant] -= 1
            if self._open[dependant] == 0:
                ready.append(dependant)
        return ready
