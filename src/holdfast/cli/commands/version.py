"""`holdfast version`: what runs here."""

from __future__ import annotations

import platform
from importlib import metadata

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Command

_PARTS = ("apsw", "asyncpg")


@click.command("version", cls=Command)
@click.pass_obj
def command(invocation: Invocation) -> None:
    """Show the version of Holdfast and of what it runs on.

    `sqlite` is the version of the SQLite library that is used, which is not the one of Python.
    """
    versions = {"holdfast": _version("holdfast"), "python": platform.python_version()}
    versions |= {part: _version(part) for part in _PARTS}
    # Asked of the package's metadata, as the library itself is loaded by the driver alone: an apsw
    # release is numbered after the SQLite release that it carries.
    versions["sqlite"] = ".".join(versions["apsw"].split(".")[:3]) if versions["apsw"] else None
    if invocation.output.is_table:
        shown = {part: version or "not installed" for part, version in versions.items()}
        invocation.output.record(shown, key="holdfast")
    else:
        invocation.output.record(versions, key="holdfast")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
