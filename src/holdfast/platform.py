"""`hf.open`: a store and its records, without workflows.

async with hf.open("sqlite:///app.db") as platform:
    notes = platform.repo(Note)
    await notes.create(Note(title="first"))
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.records.declare import Record

if TYPE_CHECKING:
    from holdfast.config.schema import Config
    from holdfast.domain.achievements import Achievements
    from holdfast.domain.agents import Agents
    from holdfast.domain.api_keys import ApiKeys
    from holdfast.domain.audit import Audit
    from holdfast.domain.conversations import Conversations
    from holdfast.domain.deployments import Deployments
    from holdfast.domain.incidents import Incidents
    from holdfast.domain.mfa import MfaSecrets
    from holdfast.domain.runbooks import Runbooks
    from holdfast.domain.schedules import Schedules
    from holdfast.domain.sessions import Sessions
    from holdfast.domain.tasks import Tasks
    from holdfast.domain.users import Users
    from holdfast.domain.workflows import Workflows
    from holdfast.store.drivers.base import Isolation, Transaction
    from holdfast.store.repository import Repository
    from holdfast.store.store import Store

R = TypeVar("R", bound=Record)
S = TypeVar("S")


class Platform:
    """An open store, and what can be done with its records. Use as `async with`; belongs to one event loop.

    `url` None takes the place from the configuration: files and environment. The store is made and brought up
    to date when it is opened.
    """

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._store: Store | None = None
        self._config: Config | None = None
        self._services: dict[type[Any], Any] = {}

    async def __aenter__(self) -> Platform:
        from holdfast.stores import build_store, config_for

        config = config_for(self._url)
        store = build_store(config, create=True)
        await store.open(migrate=config.storage.migrations.enabled)
        self._store, self._config = store, config
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        store, self._store = self._store, None
        self._services.clear()
        if store is not None:
            await store.close()

    @property
    def store(self) -> Store:
        """The open store. Raises `StoreUnavailable` outside of `async with`."""
        if self._store is None:
            from holdfast.errors import StoreUnavailable

            raise StoreUnavailable("the store is not open", fix="open it first: `async with hf.open(…)`")
        return self._store

    def repo(self, cls: type[R], *, within: Transaction | None = None) -> Repository[R]:
        """The records of one declared kind; see `Repository`."""
        return self.store.repo(cls, within=within)

    def transaction(self, *, isolation: Isolation | None = None) -> AbstractAsyncContextManager[Transaction]:
        """A block that runs once and commits at its end; see `Store.transaction`."""
        return self.store.transaction() if isolation is None else self.store.transaction(isolation=isolation)

    # Who uses the platform; the keys come from the configuration (`security`).

    @property
    def users(self) -> Users:
        """Accounts and logins, by the policy's defaults."""
        from holdfast.domain.users import Users

        return self._kept(Users, lambda: Users(self.store))

    @property
    def mfa(self) -> MfaSecrets:
        """Secrets of second factors, encrypted by `security.encryption_key`."""
        from holdfast.domain.keyrings import keyring_of
        from holdfast.domain.mfa import MfaSecrets

        return self._kept(
            MfaSecrets, lambda: MfaSecrets(self.store, keyring_of(self._configured.security.encryption_key))
        )

    @property
    def api_keys(self) -> ApiKeys:
        """API keys, hashed with `security.api_key_pepper`."""
        from holdfast.domain.api_keys import ApiKeys
        from holdfast.domain.keyrings import keyring_of

        return self._kept(
            ApiKeys, lambda: ApiKeys(self.store, keyring_of(self._configured.security.api_key_pepper))
        )

    @property
    def sessions(self) -> Sessions:
        """Sessions, by the policy's defaults."""
        from holdfast.domain.sessions import Sessions

        return self._kept(Sessions, lambda: Sessions(self.store))

    @property
    def achievements(self) -> Achievements:
        """What users and agents achieve."""
        from holdfast.domain.achievements import Achievements

        return self._kept(Achievements, lambda: Achievements(self.store))

    @property
    def conversations(self) -> Conversations:
        """Conversations with their messages, and what models were given to see."""
        from holdfast.domain.conversations import Conversations

        return self._kept(Conversations, lambda: Conversations(self.store))

    # What the platform's agents and workflows are about.

    @property
    def agents(self) -> Agents:
        """Who is registered to carry out tasks, and who of them gives signs of life."""
        from holdfast.domain.agents import Agents

        return self._kept(Agents, lambda: Agents(self.store))

    @property
    def tasks(self) -> Tasks:
        """Tasks for agents, with priorities and dependencies."""
        from holdfast.domain.tasks import Tasks

        return self._kept(Tasks, lambda: Tasks(self.store))

    @property
    def workflows(self) -> Workflows:
        """Registered versions of workflows."""
        from holdfast.domain.workflows import Workflows

        return self._kept(Workflows, lambda: Workflows(self.store))

    @property
    def deployments(self) -> Deployments:
        """Which versions the environments run."""
        from holdfast.domain.deployments import Deployments

        return self._kept(Deployments, lambda: Deployments(self.store))

    @property
    def schedules(self) -> Schedules:
        """When workflows are to be started by themselves."""
        from holdfast.domain.schedules import Schedules

        return self._kept(Schedules, lambda: Schedules(self.store))

    # What goes wrong, what is done about it, and who did what.

    @property
    def incidents(self) -> Incidents:
        """Incidents, from the moment somebody notices to their end."""
        from holdfast.domain.incidents import Incidents

        return self._kept(Incidents, lambda: Incidents(self.store))

    @property
    def runbooks(self) -> Runbooks:
        """Workflows kept for incidents, in editions, and their runs."""
        from holdfast.domain.runbooks import Runbooks

        return self._kept(Runbooks, lambda: Runbooks(self.store))

    @property
    def audit(self) -> Audit:
        """The chain of audit entries, keyed by `security.audit_key` if there is one."""
        from holdfast.domain.audit import Audit
        from holdfast.domain.keyrings import keyring_of

        return self._kept(Audit, lambda: Audit(self.store, keyring_of(self._configured.security.audit_key)))

    @property
    def _configured(self) -> Config:
        assert self._config is not None, "set together with the store"
        return self._config

    def _kept(self, kind: type[S], make: Callable[[], S]) -> S:
        """The one service of its kind while the store is open."""
        if kind not in self._services:
            self._services[kind] = make()
        return self._services[kind]  # type: ignore[no-any-return]


def open(url: str | None = None) -> Platform:
    """A store by its URL, to be opened with `async with`; see `Platform`."""
    return Platform(url)
