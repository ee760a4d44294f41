"""What every worker needs, imported once in the process that workers are forked from."""

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from .. import task  # noqa: F401

# The first array of Python objects makes Arrow look for pandas, which takes long where it is installed.
pa.array([0])
