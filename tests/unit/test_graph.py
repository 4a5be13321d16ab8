"""The dependency graph against brute force: order, readiness, ancestors and circles."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from holdfast.workflows.graph import Graph, Readiness

Needs = dict[str, list[str]]
ids = st.sampled_from("abcdefgh")
any_graph = st.dictionaries(ids, st.lists(ids, max_size=4), max_size=8)


@st.composite
def acyclic(draw: st.DrawFn) -> Needs:
    nodes = draw(st.permutations("abcdefgh"))
    needs: Needs = {}
    for index, node in enumerate(nodes):
        earlier = nodes[:index]
        needs[node] = draw(st.lists(st.sampled_from(earlier), max_size=4)) if earlier else []
    return {node: needs[node] for node in draw(st.permutations(nodes))}


def reachable(needs: Needs, start: str) -> set[str]:
    found: set[str] = set()
    for _ in range(len(needs) + 1):
        for node in [start, *found]:
            found |= {each for each in needs[node] if each in needs}
    return found


@given(any_graph)
def test_a_circle_is_reported_exactly_when_there_is_one(needs: Needs) -> None:
    graph = Graph(needs)
    cycle = graph.cycle()
    assert (cycle is not None) == any(node in reachable(needs, node) for node in needs)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle[:-1])) == len(cycle) - 1
        assert all(after in needs[before] for before, after in itertools.pairwise(cycle))
    assert (len(graph.order) == len(needs)) == (cycle is None)


@given(any_graph)
def test_ancestors_are_all_that_is_needed_through_others(needs: Needs) -> None:
    graph = Graph(needs)
    for node in needs:
        assert graph.ancestors(node) == reachable(needs, node)


@given(acyclic(), st.randoms(use_true_random=False))
def test_a_node_is_ready_once_and_only_behind_what_it_needs(needs: Needs, chance: object) -> None:
    readiness = Readiness(Graph(needs))
    ready = readiness.start()
    ended: list[str] = []
    while ready:
        node = ready.pop(chance.randrange(len(ready)))  # type: ignore[attr-defined]
        assert set(needs[node]) <= set(ended)
        ended.append(node)
        ready.extend(readiness.done(node))
    assert sorted(ended) == sorted(needs)


def test_a_long_chain_needs_no_recursion() -> None:
    needs: Needs = {str(each): [str(each - 1)] if each else [] for each in range(20_000)}
    graph = Graph(needs)
    assert len(graph.order) == 20_000
    assert len(graph.ancestors("19999")) == 19_999
    needs["0"] = ["19999"]
    cycle = Graph(needs).cycle()
    assert cycle is not None
    assert len(cycle) == 20_001


def test_doubled_and_unknown_needs_do_not_block() -> None:
    readiness = Readiness(Graph({"a": [], "b": ["a", "a", "nowhere"]}))
    assert readiness.start() == ["a"]
    assert readiness.done("a") == ["b"]
