"""What a model decides: scorers and refiners, how they are found, trained and checked."""

from ..schemas.contracts import (
    EDIT,
    Again,
    AssetError,
    AssetRef,
    Assets,
    Decision,
    Refiner,
    Scorer,
    Selector,
    Trainable,
)

__all__ = [
    "EDIT",
    "Again",
    "AssetError",
    "AssetRef",
    "Assets",
    "Decision",
    "Refiner",
    "Scorer",
    "Selector",
    "Trainable",
]
