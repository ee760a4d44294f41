"""How many threads the libraries of a worker process use: its workers share the cores, not each library."""

from __future__ import annotations

import os
import sys
from typing import Final

_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def limit_threads(count: int) -> None:
    """Gives Arrow one thread, and what multiplies matrices `count`, whether it is loaded yet or not."""
    import pyarrow as pa
    from threadpoolctl import threadpool_limits

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    os.environ |= dict.fromkeys(_VARIABLES, str(count))  # for libraries that are not loaded yet
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # one that spins takes another worker's core
    threadpool_limits(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
