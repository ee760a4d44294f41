"""img2dataset from addresses to WebDataset shards: python images_img2dataset.py LIST OUT THREADS SIZE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from img2dataset import download


def main(source: str, out: str, threads: str, size: str) -> None:
    """Prints how many pictures it has got."""
    download(
        url_list=source,
        input_format="parquet",
        url_col="URL",
        caption_col="TEXT",
        output_folder=out,
        output_format="webdataset",
        processes_count=1,
        thread_count=int(threads),
        image_size=int(size),
        resize_mode="keep_ratio",
        encode_quality=95,
        timeout=10,
        retries=2,
    )
    stats = [json.loads(path.read_text()) for path in Path(out).glob("*_stats.json")]
    print(sum(shard["successes"] for shard in stats))


if __name__ == "__main__":
    main(*sys.argv[1:])
