"""Writers of shards: Parquet, JSON Lines, WebDataset."""

from .formats import FORMATS, open_sink, suffix_of
from .sink import ShardInfo, Sidecar, Sink

__all__ = ["FORMATS", "ShardInfo", "Sidecar", "Sink", "open_sink", "suffix_of"]
