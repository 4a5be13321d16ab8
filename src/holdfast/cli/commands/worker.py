"""`holdfast worker`: serve queues until told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command


@click.command("worker", cls=Command)
@click.argument("apps", nargs=-1, metavar="[APP…]")
@click.option("--queues", metavar="A,B", help="queues to serve  [worker.queues: default]")
@click.option("--classes", metavar="A,B", help="classes to serve  [worker.classes: cpu,io,gpu]")
@click.option("--concurrency", metavar="N", help="executions at once  [worker.concurrency: 10]")
@click.option(
    "--drain-timeout", metavar="DURATION", help="time to finish after SIGTERM  [worker.drain_timeout: 30s]"
)
@click.pass_obj
def command(
    invocation: Invocation,
    apps: tuple[str, ...],
    queues: str | None,
    classes: str | None,
    concurrency: str | None,
    drain_timeout: str | None,
) -> int:
    """Claim executions from queues and run them, until SIGTERM or Ctrl-C.

    APP is hello.py, hello.py:app or package.module: a file or module, or an app or a workflow in it. A worker
    that is given APPs runs the Python workflows they offer and no others; one without looks for code where it
    was when it was enqueued. Workflows in YAML are stored whole and need no APP. What a worker has no code
    or version for it leaves to others, and says so once. Makes and migrates the store like `run`. It starts
    what schedules say as well, unless scheduler.enabled is false.

    The first signal drains: nothing is claimed any more, what runs may end for as long as --drain-timeout,
    the rest is handed back and goes on elsewhere. The second signal hands back at once.

    Exit codes: 0 all that ran has ended, 10 some were handed back, 4 the store has a newer schema (what ran
    was finished first), 5 the store can not be reached at the start.
    """
    from holdfast.cli.apps import read_apps
    from holdfast.cli.serving import plan, serve

    given = {
        "worker.queues": queues,
        "worker.classes": classes,
        "worker.concurrency": concurrency,
        "worker.drain_timeout": drain_timeout,
    }
    settings = {path: text for path, text in given.items() if text is not None}
    config = invocation.load_config(settings=settings).config
    sources = read_apps(apps, Path.cwd())
    if invocation.flags.dry_run:
        return plan(invocation, config, sources)
    return serve(invocation, config, sources, apps)
