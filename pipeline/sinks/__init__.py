"""Writers of shards: Parquet, JSON Lines, WebDataset."""

from .sink import FORMATS, ShardInfo, Sink, open_sink, suffix_of

__all__ = ["FORMATS", "ShardInfo", "Sink", "open_sink", "suffix_of"]
