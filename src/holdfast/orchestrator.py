"""The programmatic form of `holdfast run`: a store, something that runs step bodies, and nothing global."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from holdfast.config.schema import Config
from holdfast.errors import NoApp
from holdfast.events.files.copying import InMemoryEventLog
from holdfast.events.files.kinds import FileSystemEventLog
from holdfast.fleet import control
from holdfast.fleet.control import unpaused
from holdfast.fleet.ends import read_outcome, wait_for_end
from holdfast.fleet.forking import fork
from holdfast.fleet.launcher import Launcher
from holdfast.fleet.retrying import retry
from holdfast.fleet.starts import Origin, Running, fingerprint
from holdfast.programs import StepExecutor, find_program, load_program, yaml_program
from holdfast.records.executions import Execution
from holdfast.records.workflows import StoredDefinition
from holdfast.store import codec
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for, follower_for, with_log
from holdfast.workflows.driving import Outcome
from holdfast.workflows.program import Program
from holdfast.workflows.progress import Observer

if TYPE_CHECKING:
    from holdfast.workflows.definition import Definition


class Orchestrator:
    """Runs workflows on a store, each part replaceable.

    `store` is a `Store`, a `Config` or a store URL; a store that was opened elsewhere stays open on `close`.
    `executor` runs the bodies of YAML steps, by default in this process. `events` is where the log is kept
    besides the store, a `FileSystemEventLog` or an `InMemoryEventLog`, or a function that gets every
    happening of a run as it happens. Example::

        async with Orchestrator("sqlite:///runs.db") as orchestrator:
            outcome = await orchestrator.run("build.yaml", {"target": "docs"})
    """

    def __init__(
        self,
        store: Store | Config | str,
        executor: StepExecutor | None = None,
        events: Observer | FileSystemEventLog | InMemoryEventLog | None = None,
        *,
        lease: timedelta = timedelta(seconds=30),
        wait: timedelta | None = None,
        migrate: bool = True,
    ) -> None:
        self._owns_store = not isinstance(store, Store)
        if isinstance(store, Store):
            self.store = store
        else:
            config = store if isinstance(store, Config) else config_for(store)
            if isinstance(events, FileSystemEventLog):
                config = with_log(config, events)
            self.store = build_store(config, create=migrate)
        self._migrate = migrate
        self._executor = executor
        self._lease = lease
        self._wait_s = None if wait is None else wait.total_seconds()
        self._follower = follower_for(self.store, events, is_built=not self._owns_store)
        self._observer = events if callable(events) else None
        self._launcher: Launcher | None = None
        self._extra: dict[bytes, Program] = {}

    async def initialize(self) -> None:
        """Open the store, bring its schema up to date, and register this process. Safe twice."""
        if self._launcher is not None:
            return
        if self._owns_store:
            await self.store.open(migrate=self._migrate)
        launcher = Launcher(
            self.store,
            load=self._load,
            find=self._find,
            lease=self._lease,
            observer=self._observer,
            sleep_max_s=self._wait_s,
        )
        try:
            await launcher.open()
        except BaseException:
            if self._owns_store:
                await self.store.close()
            raise
        self._launcher = launcher
        if self._follower is not None:
            await self._follower.start()

    async def close(self) -> None:
        """Hand back what runs, and close a store that this opened. Safe twice."""
        launcher, self._launcher = self._launcher, None
        if launcher is None:
            return
        try:
            await launcher.close()
            if self._follower is not None:
                await self._follower.stop()
        finally:
            if self._owns_store:
                await self.store.close()

    async def __aenter__(self) -> Orchestrator:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def launcher(self) -> Launcher:
        """What runs executions here; `NoApp` before `initialize`."""
        if self._launcher is None:
            raise NoApp("the orchestrator is not open", fix="call `await orchestrator.initialize()` first")
        return self._launcher

    async def run(
        self,
        workflow: Definition | Program | Path | str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        new: bool = False,
    ) -> Outcome:
        """Run a definition (or a YAML file) to its end, going on with an unfinished run of the same input."""
        running = await self.start(workflow, input, id=id, new=new)
        return await self.outcome(running)

    async def start(
        self,
        workflow: Definition | Program | Path | str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        new: bool = False,
        origin: Origin | None = None,
    ) -> Running | Execution:
        """Start or go on, by the rule of `holdfast run`: see `continue_or_start`."""
        program, encoded = self.program(workflow, input)
        return await self.continue_or_start(program, encoded, origin or Origin(id=id), new=new)

    def program(
        self, workflow: Definition | Program | Path | str, input: Mapping[str, Any] | None
    ) -> tuple[Program, bytes]:
        """What `workflow` means here, and its checked input, encoded."""
        if isinstance(workflow, Program):
            return workflow, codec.encode(dict(input or {}), what="input")
        from holdfast.workflows.definition import Definition, load

        definition = workflow if isinstance(workflow, Definition) else load(workflow)
        checked = definition.check_input(dict(input or {}))
        return yaml_program(definition, self._executor), codec.encode(checked, what="input")

    async def continue_or_start(
        self, program: Program, input: bytes, origin: Origin, *, new: bool = False, steal: bool = False
    ) -> Running | Execution:
        """Go on with the newest unfinished execution of the same name and input, else start one.

        With an id in `origin` it is that execution or a new one with this id; with `new` always a new one.
        Raises `DefinitionChanged` when the unfinished one runs another definition, `OwnedElsewhere` when a
        live process runs it.
        """
        launcher = self.launcher
        self._extra[program.definition.hash] = program
        if not new and origin.id is None:
            twins = await self.store.unfinished_twins(fingerprint(program.definition.name, input))
            if twins:
                if twins[0].definition != program.definition.hash:
                    raise await launcher.definition_changed(twins[0], program)
                return await launcher.resume(twins[0], steal=steal)
        started = await launcher.start(program, input, origin)
        if isinstance(started, Execution) and not started.status.is_final:
            return await launcher.resume(started, steal=steal)
        return started

    async def resume(self, id: str, *, steal: bool = False) -> Running:
        """Go on with an unfinished execution by its stored definition; a paused one is no longer so."""
        return await self.launcher.resume(await unpaused(self.store, id), steal=steal)

    async def pause(self, id: str, reason: str = "") -> bool:
        """Set an execution aside; see `fleet.control.pause`. `resume` goes on with it here."""
        execution = await self.store.get_execution(id)
        return await control.pause(self.store, self.launcher.registration, execution, reason=reason)

    async def cancel(self, id: str, reason: str = "") -> bool:
        """Stop an execution for good, wherever it runs; see `fleet.cancelling.cancel`."""
        return await self.launcher.cancel(await self.store.get_execution(id), reason=reason)

    async def retry(self, id: str, *, from_step: str | None = None) -> list[str]:
        """Make a failed or cancelled execution ready again; see `fleet.retrying.retry`.

        `resume` runs it here.
        """
        return await retry(self.store, await self.store.get_execution(id), from_step=from_step)

    async def fork(
        self,
        id: str,
        *,
        at: str | None = None,
        input: Mapping[str, Any] | None = None,
        new_id: str | None = None,
    ) -> Execution:
        """A new execution with the results of another one before step `at`; see `fleet.forking.fork`."""
        encoded = None if input is None else codec.encode(dict(input), what="input")
        return await fork(self.store, await self.store.get_execution(id), at=at, input=encoded, id=new_id)

    async def outcome(self, running: Running | Execution) -> Outcome:
        """Wait for the end of an execution."""
        if isinstance(running, Running):
            return await running.task
        if not running.status.is_final:
            await wait_for_end(self.store, running.id)
        return await read_outcome(self.store, running.key)

    def _load(self, definition: StoredDefinition) -> Program:
        known = self._extra.get(definition.hash)
        return known if known is not None else load_program(definition, self._executor)

    async def _find(self, name: str, version: str | None, asking: StoredDefinition | None) -> Program:
        module = str(asking.document.get("module")) if asking and asking.kind == "python" else ""
        if module in sys.modules:
            # A Python parent means the workflow beside it, not one that happens to be registered.
            from holdfast.programs import workflow_in
            from holdfast.workflows.python_program import program_of

            found = workflow_in(sys.modules[module], name, module)
            wanted = found if version is None else found.beside(version)
            if wanted is not None:
                return program_of(wanted)
        return await find_program(self.store, name, version, asking, self._executor)
