"""datatrove: FineWeb's filters as a job, Parquet to Parquet; run by datatrove's own Python.

python datatrove_job.py DOCUMENTS.parquet OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

documents, out = Path(sys.argv[1]), sys.argv[2]
LocalPipelineExecutor(
    logging_dir=f"{out}/logs",
    tasks=1,
    workers=1,
    pipeline=[
        ParquetReader(str(documents.parent), glob_pattern=documents.name),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
        ParquetWriter(f"{out}/kept"),
    ],
).run()
