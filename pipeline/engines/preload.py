"""What every worker needs, imported once in the process that workers are forked from."""

import numba  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401

from .. import task  # noqa: F401
