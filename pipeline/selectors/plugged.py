"""A selector of a user's own in a job: held to its contract, its errors told with its name and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from ...schemas.contracts import Again, Decision, Selector
from ...scorers import registry
from ...scorers.selector_contract import DECIDED, check_decided, check_declared, check_outcome

Made = TypeVar("Made")


class SelectorError(Exception):
    """A selector breaks its contract; the message says which, where, and what to return instead."""


class PluggedSelector(Selector):
    """The selector that a job names with `with`: an installed plug-in's, or a class of the job's own folder.

    `directory` and `allow_code` are as `registry.find` takes them; `fingerprint` is not used here but tells
    one state of the plug-in's code from another. Raises PluginError if it cannot be built, SelectorError
    where it does other than its contract says; what the plug-in raises is the cause of such an error.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        step: str,
        selector: str,
        arguments: Mapping[str, Any],
        directory: str,
        allow_code: bool,
        fingerprint: str = "",
    ) -> None:
        self._called = f"step {step}: selector {selector}"
        self.plugin = registry.build(
            registry.SELECTOR, selector, arguments, directory=Path(directory or "."), allow_code=allow_code
        )
        self.max_copies = self.plugin.max_copies
        if problem := check_declared(self.plugin):
            raise registry.PluginError(f"selector {selector}: {problem}")

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.plugin.inputs))

    def start(self, learned: Again | None) -> pa.Table:
        return self._state("start", lambda: self.plugin.start(learned))

    def update(self, state: pa.Table, batch: pa.RecordBatch, learned: Again | None) -> pa.Table:
        seen = batch.select(list(self.inputs))
        return self._state("update", lambda: self.plugin.update(state, seen, learned))

    def merge(self, a: pa.Table, b: pa.Table, learned: Again | None) -> pa.Table:
        return self._state("merge", lambda: self.plugin.merge(a, b, learned))

    def finish(self, state: pa.Table, learned: Again | None) -> Decision | Again:
        outcome = self._try("finish", lambda: self.plugin.finish(state, learned))
        if problem := check_outcome(outcome, learned):
            raise SelectorError(f"{self._called}: {problem}")
        return outcome

    def decide(self, batch: pa.RecordBatch, decision: Decision) -> pa.RecordBatch:
        seen = batch.select(list(self.inputs))
        found = self._try("decide", lambda: self.plugin.decide(seen, decision))
        if problem := check_decided(found, len(batch), self.max_copies):
            raise SelectorError(f"{self._called}: {problem}")
        return pa.RecordBatch.from_arrays(
            [found.column(field.name).cast(field.type) for field in DECIDED], schema=DECIDED
        )

    def _state(self, method: str, call: Callable[[], pa.Table]) -> pa.Table:
        state = self._try(method, call)
        if not isinstance(state, pa.Table):
            told = f"{method} returns {type(state).__name__}; return the state, a pa.Table"
            raise SelectorError(f"{self._called}: {told}")
        return state

    def _try(self, method: str, call: Callable[[], Made]) -> Made:
        try:
            return call()
        except Exception as error:
            told = f"{method} raises {type(error).__name__}: {error}"
            raise SelectorError(f"{self._called}: {told}") from error
