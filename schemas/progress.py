"""What a run tells whoever watches it."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Hears about stages and tasks; called from the driver only, never from two threads at once."""

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        """`tasks` of which `done` were committed by an earlier run; `bytes` that the stage will read."""
        ...

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None:
        """One task of the stage `name` was committed: records that entered and survived, bytes it read."""
        ...

    def stage_finished(self, name: str) -> None:
        """Every task of the stage is committed."""
        ...

    def note(self, message: str) -> None:
        """One sentence for the person: a restarted worker, a skipped container."""
        ...


class Silent:
    """Hears and says nothing."""

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None: ...

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None: ...

    def stage_finished(self, name: str) -> None: ...

    def note(self, message: str) -> None: ...
