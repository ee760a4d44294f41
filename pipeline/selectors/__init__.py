"""Choices that need the whole corpus: the best or the first records, percentiles, mixes of groups."""

from .bucket import BucketSelector
from .hierarchical import HierarchicalSelector
from .limit import LimitSelector
from .mix import MixSelector
from .top import TopSelector

__all__ = ["BucketSelector", "HierarchicalSelector", "LimitSelector", "MixSelector", "TopSelector"]
