"""What a model decides: scorers, how they are found, trained and checked."""

from ..schemas.contracts import AssetError, AssetRef, Assets, Scorer, Trainable

__all__ = ["AssetError", "AssetRef", "Assets", "Scorer", "Trainable"]
