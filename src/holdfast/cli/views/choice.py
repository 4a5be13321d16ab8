"""Which view a run gets: a tree, lines, JSON or none."""

from __future__ import annotations

from holdfast.cli.context import Invocation
from holdfast.cli.views.lines import JsonLines, Lines, Silent, View


def view_for(invocation: Invocation, *, several: bool = False) -> View:
    """The view of --progress; by default a tree on a terminal, lines in a pipe, none with --json."""
    form = invocation.flags.progress
    stream = invocation.stderr
    if form == "auto":
        if stream.isatty() and not several and invocation.environ.get("TERM") != "dumb":
            from holdfast.cli.views.tree import Tree

            return Tree(stream, colored=invocation.colored(stream))
        form = "none" if invocation.flags.wants_json or invocation.flags.quiet else "plain"
    if form == "json":
        return JsonLines(stream)
    return Lines(stream, several=several) if form == "plain" else Silent()
