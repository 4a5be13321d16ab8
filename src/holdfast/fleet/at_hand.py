"""The code that one worker has: programs by definition, and what it was asked for and has not got."""

from __future__ import annotations

from holdfast.errors import DefinitionChanged, HoldfastError, WorkflowNotFound
from holdfast.fleet.claims import Claimed
from holdfast.fleet.service import Code
from holdfast.store.store import Store
from holdfast.workflows.program import Program

_VERSIONS_MAX = 100


class CodeAtHand:
    """Loads each definition once. `missing` are those that have no code here, with names for people."""

    def __init__(self, store: Store, code: Code) -> None:
        self._store = store
        self._code = code
        self._programs: dict[bytes, Program] = {}
        self.marks = [_mark(hash) for hash in code.hashes()]
        self.missing: dict[bytes, str] = {}

    async def program(self, claimed: Claimed) -> Program | HoldfastError:
        """The code of an execution, or why it can not be had here."""
        known = self._programs.get(claimed.definition)
        if known is not None:
            return known
        definition = await self._store.get_definition(claimed.definition, tenant=claimed.holding.tenant)
        try:
            if definition is None:
                raise WorkflowNotFound(f"the definition of execution {claimed.holding.id} is not stored")
            program = self._code.load(definition)
        except (WorkflowNotFound, DefinitionChanged) as error:
            return error
        self._programs[claimed.definition] = program
        return program

    def lacks(self, claimed: Claimed) -> tuple[str, str | None]:
        """The mark that an execution without code waits for, and at the first time what to call that code."""
        is_new = claimed.definition not in self.missing
        name = self.missing.setdefault(claimed.definition, f"{claimed.workflow} version {claimed.version}")
        return _mark(claimed.definition), name if is_new else None

    async def found_again(self) -> list[str]:
        """The marks of versions that are waited for and that are here after all."""
        found = []
        for mark, tenant in await self._store.driver.fetch("fleet.missing_versions", _VERSIONS_MAX):
            hash_ = bytes.fromhex(mark.removeprefix("version:"))
            definition = await self._store.get_definition(hash_, tenant=tenant)
            if definition is not None and self._code.has(definition):
                self.missing.pop(hash_, None)
                found.append(mark)
        return found


def _mark(hash: bytes) -> str:
    return f"version:{hash.hex()}"
