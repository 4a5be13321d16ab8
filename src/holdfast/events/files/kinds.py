"""The event log in files, as a program names it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class FileSystemEventLog:
    """The log of a run in files below `dir`, one folder per execution.

    Beside a database they are a copy, a second behind at most; of a store in memory they are the record, and
    its state comes back from them. `rotate` is in bytes. `fsync` `interval`, about once a second, is for
    copies alone. Example::

        async with hf.Orchestrator("memory://", events=hf.FileSystemEventLog("./var/run")) as orchestrator:
            await orchestrator.run("build.yaml")
    """

    dir: str | Path
    fsync: Literal["always", "interval"] = "always"
    rotate: int = 64 * 2**20
    compress: Literal["zstd", "gzip", "none"] = "gzip"
