"""How a store behaves, apart from where it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from holdfast.config.schema import Http

DEFAULT_TENANT = "default"
DEFAULT_ENVIRONMENT = "production"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """What may be set of a store, with what holds when nothing is."""

    tenant: str = DEFAULT_TENANT
    retry_on_conflict: int = 5
    retry_backoff: timedelta = timedelta(milliseconds=50)
    migrate_lock_timeout: timedelta = timedelta(seconds=60)
    migrations_folder: Path | None = None
    slow_query: timedelta = timedelta(seconds=1)  # a statement that took as long is logged
    environment: str = DEFAULT_ENVIRONMENT  # whose deployments a bare name means
    http: Http = field(default_factory=Http)  # what steps that call others may do
    hints: bool = True  # off: other processes' changes are noticed by polling alone
