"""The step that thins out the captions of frequent entries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..schemas import images as schema
from ..schemas.contracts import AssetError
from ..scorers.assets import LocalAssets
from .compiled import CorpusStep, MapStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .stage import Input, OperatorRef, Parts
from .steps.balance import AddCaptions, Balance, CountEntries, FindEntries
from .steps.reading import Keep

SUM_ROW_BYTES = 20  # key, number, captions
ENTRIES_OF_A_RECORD = 20  # different ones, at most, on average


@dataclass
class BalanceStep(CorpusStep):
    """Keeps of each entry about t captions.

    Through the exchange goes a row for each entry of a part. What it decides is a table of entries with
    their captions and probabilities, which every worker holds.
    """

    options: schema.Balance | None = None
    seed: int = 0
    column: str = ""  # the entries of each record, for this step alone
    path: str = ""
    checksum: str = ""
    entries: int = 0
    told: tuple[str, ...] = ()  # what a person should know of the file

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        for message in self.told:
            driver.listener.note(f"{self.name}: {message}")
        rows = sum(part.rows for part in parts)
        sums = min(len(parts) * self.entries, rows * ENTRIES_OF_A_RECORD)
        counted = driver.run(
            f"{self.stage_name}-counts",
            {
                "sums": Input(
                    parts,
                    (OperatorRef.of(CountEntries, column=self.column, entries=self.entries),),
                    "key",
                    (self.column,),
                )
            },
            partitions=partitions_for(sums * SUM_ROW_BYTES),
            reduce=OperatorRef.of(
                AddCaptions, step=self.name, path=self.path, checksum=self.checksum, t=self.options.t
            ),
        )
        balance = OperatorRef.of(
            Balance,
            step=self.name,
            column=self.column,
            counts=[committed.streams["counts"].path for committed in counted],
            entries=self.entries,
            seed=self.seed,
        )
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{self.stage_name}-apply",
            {"records": Input(parts, (balance, keep), columns=("id", "source", self.column))},
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def compile_balance(
    name: str, number: int, options: schema.Balance, seed: int, directory: Path
) -> BalanceStep:
    """The step of a job; `number` tells its column from those of others, `directory` is where the entries are
    looked for. Raises AssetError."""
    from ..filters.text.entries import VERSION, EntriesError, read_entries

    asset = LocalAssets([directory]).describe(options.entries)
    try:
        found = read_entries(Path(asset.path))
    except (EntriesError, OSError) as error:
        raise AssetError(f"{asset.path}: {error}") from error
    column = f"balance_{number}_entries"
    operator = OperatorRef.of(
        FindEntries, path=asset.path, checksum=asset.sha256, matching=VERSION, column=column
    )
    return BalanceStep(
        name,
        frozenset({column}),
        MapStep(name, operator, frozenset({"text"}), (column,)),
        options=options,
        seed=seed,
        column=column,
        path=asset.path,
        checksum=asset.sha256,
        entries=len(found.entries),
        told=_told(options.entries, found.empty, found.repeated, found.never),
    )


def _told(file: str, empty: int, repeated: int, never: int) -> tuple[str, ...]:
    left_out = [f"{count:,} {what}" for count, what in ((empty, "empty"), (repeated, "repeated")) if count]
    told = [f"{file}: {' and '.join(left_out)} entries are left out"] if left_out else []
    if never:
        told.append(
            f"{file}: {never:,} entries can be in no caption, for a mark (one of ,.;:?!`) is spaced there"
        )
    return tuple(told)
