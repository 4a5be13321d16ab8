"""The values of the flags that every command takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class GlobalFlags:
    """What the flags of `catalogue.FLAGS` were set to."""

    config: str | None = None
    storage: str | None = None
    profile: str | None = None
    output: str = "table"
    fields: str | None = None
    no_headers: bool = False
    quiet: bool = False
    verbose: int = 0
    yes: bool = False
    no_input: bool = False
    dry_run: bool = False
    color: str = "auto"
    progress: str = "auto"
    timeout: str | None = None
    utc: bool = False

    def set(self, dest: str, value: object) -> None:
        """Note that a flag was given; `-v` adds up, `--json` is an output format."""
        if dest == "json":
            self.output = "json"
        elif dest == "verbose" and isinstance(value, int):
            self.verbose += value
        else:
            setattr(self, dest, value)

    @property
    def wants_json(self) -> bool:
        """Whether failures are reported as problem+json."""
        return self.output in {"json", "ndjson"}
