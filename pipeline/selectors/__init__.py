"""Choices that need the whole corpus: the best records up to a budget, the first records."""

from .limit import LimitSelector
from .top import TopSelector

__all__ = ["LimitSelector", "TopSelector"]
