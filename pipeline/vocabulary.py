"""The step that drops captions with a word that is rare in the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ..schemas import images as schema
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order, shift_of
from .stage import Committed, Input, Layer, OperatorRef, Parts
from .steps.occurrences import AddUp
from .steps.reading import Keep, stream_part
from .steps.vocabulary import CollectRare, CountNgrams, DropRare, KeepAll, NgramRows, RareRows, least_known
from .store import open_parquet

NGRAMS = 20  # words and pairs of a record, on average
NGRAM_ROW_BYTES = 24  # key, position, count
RARE_ROW_BYTES = 16


@dataclass
class VocabularyStep(CorpusStep):
    """Drops the records with a word, or a pair of neighbouring words, that is rare in the corpus.

    Known are at most `size`: those with a certain number of occurrences or more, the least that lets all of
    them fit, so that words that occur as often are all known or all rare. Through the exchange, and onto the
    disk, goes a row for each word and pair of a part; back come those that are rare.
    """

    options: schema.Vocabulary | None = None
    rare: str = ""  # the column that says what is rare, for this step alone
    version: str = ""

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        options, name = self.options, self.stage_name
        chosen = {"ngrams": options.ngrams, "lowercase": options.lowercase, "version_of": self.version}
        counted = driver.run(
            f"{name}-ngrams",
            {"ngrams": Input(parts, (OperatorRef.of(NgramRows, **chosen),), "key", ("text",))},
            partitions=partitions_for(sum(part.rows for part in parts) * NGRAMS * NGRAM_ROW_BYTES),
            reduce=OperatorRef.of(CountNgrams),
            combine=OperatorRef.of(AddUp),
        )
        least, known, total = least_known(map(_histogram, counted), options.size)
        if least is None:
            drop, judged = OperatorRef.of(KeepAll, step=self.name), parts
            columns: tuple[str, ...] = ("id", "source")
            driver.listener.note(f"{self.name}: all {total:,} words and pairs are known")
        else:
            drop = OperatorRef.of(DropRare, step=self.name, rare=self.rare, **chosen)
            judged = add_layer(parts, self._rare(driver, counted, parts, least))
            columns = ("id", "source", "text", self.rare)
            told = f"{known:,} of {total:,} words and pairs are known"
            driver.listener.note(f"{self.name}: {told}, those with {least:,} occurrences or more")
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(f"{name}-apply", {"records": Input(judged, (drop, keep), columns=columns)})
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])

    def _rare(self, driver: Driver, counted: list[Committed], parts: Parts, least: int) -> list[Layer]:
        """For each part what of it is rare, each beside the first record that has it."""
        found = tuple(stream_part(c.task, c.streams["ngrams"]) for c in counted)
        shift = shift_of(parts)
        return in_part_order(
            driver,
            f"{self.stage_name}-rare",
            found,
            parts,
            {self.rare: self.rare},
            bytes_=sum(part.rows for part in found) * RARE_ROW_BYTES,
            maps=(OperatorRef.of(RareRows, least=least, shift=shift),),
            reduce=OperatorRef.of(CollectRare, shift=shift, column=self.rare),
        )


def _histogram(committed: Committed) -> pa.Table:
    with open_parquet(committed.streams["histogram"].path) as file:
        return file.read()


def compile_vocabulary(name: str, number: int, options: schema.Vocabulary) -> VocabularyStep:
    """The step of a job; `number` tells its column from those of others."""
    from ..filters.text.word_pairs import VERSION
    from ..filters.text.words import WORDS_VERSION

    return VocabularyStep(
        name,
        frozenset({"text"}),
        options=options,
        rare=f"vocabulary_{number}_rare",
        version=f"{VERSION}.{WORDS_VERSION}",
    )
