"""What steps are compiled to: an operator of a fused pass, or stages over the whole corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .driver import Driver
from .stage import Layer, OperatorRef, Parts, Resources


@dataclass
class MapStep:
    """A step that looks at one record at a time."""

    name: str
    operator: OperatorRef
    reads: frozenset[str] = frozenset()
    adds: tuple[str, ...] = ()
    edits: str = ""  # text or image, where it changes that: what is known of it is then no longer true
    types: Mapping[str, str] = field(default_factory=dict)  # of `adds` that go into the output: Arrow's name


@dataclass
class CorpusStep(ABC):
    """A step that needs every record that survived so far; its keys are computed in the pass before."""

    name: str
    reads: frozenset[str]  # columns of the records, `keys` among them
    keys: MapStep | None = None
    edits: str = ""  # as a MapStep's
    types: Mapping[str, str] = field(default_factory=dict)  # columns that it makes: Arrow's name of each type
    copies: str = ""  # which of these says how often a record is written, if one does
    kernels: tuple[str, ...] = ()  # modules that operators of its own stages compile or load
    on: str | None = None  # the engine of its stages; None: that of the job
    resources: Resources = field(default_factory=Resources)

    @property
    def adds(self) -> tuple[str, ...]:
        """The columns that the pass before computes for this step alone."""
        return self.keys.adds if self.keys else ()

    @property
    def makes(self) -> tuple[str, ...]:
        """The columns that it adds to what survives it, other than `text`."""
        return tuple(self.types)

    @property
    def stage_name(self) -> str:
        """What the names of its stages begin with."""
        return self.name.replace(":", "-")

    @property
    @abstractmethod
    def kind(self) -> str:
        """What its stages do, for a person: exchange or summary."""

    @abstractmethod
    def run(self, driver: Driver, parts: Parts) -> Parts:
        """Runs its stages and returns the parts with what survives them."""


def add_layer(parts: Parts, layers: Sequence[Layer]) -> Parts:
    """The parts with one more layer each."""
    return tuple(
        replace(part, layers=(*part.layers, layer)) for part, layer in zip(parts, layers, strict=True)
    )
