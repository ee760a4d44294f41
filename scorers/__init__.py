"""What a model decides: scorers and refiners, how they are found, trained and checked."""

from ..schemas.contracts import AssetError, AssetRef, Assets, Refiner, Scorer, Trainable

__all__ = ["AssetError", "AssetRef", "Assets", "Refiner", "Scorer", "Trainable"]
