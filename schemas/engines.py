"""What a job says about the engines that run it on other machines."""

from __future__ import annotations

from pydantic import Field

from .quantities import PositiveInt
from .verbs import Model

IN_PROCESS = "in-process"


class Ray(Model):
    """Where a Ray cluster is, and how much of it a job may use at a time."""

    address: str = Field(
        default="",
        description="Of the cluster, as in auto or 10.0.0.1:6379. Where left out: what RAY_ADDRESS says, "
        "and without that a cluster on this machine, of `run.workers` cores, for as long as the job runs.",
    )
    window: PositiveInt | None = Field(
        default=None,
        description="Tasks that are submitted at a time; twice the cores of the cluster where left out.",
    )


class Beam(Model):
    """Which runner of Apache Beam, and its options."""

    runner: str = Field(
        default=IN_PROCESS,
        description="in-process, or a runner by its name: PortableRunner, FlinkRunner, SparkRunner, "
        "DataflowRunner.",
    )
    options: list[str] = Field(
        default=[], description="Of the runner, as Beam writes them: --job_endpoint=localhost:8099."
    )
    silence: PositiveInt | None = Field(
        default=None,
        description="Seconds without a sign of any worker after which a run is given up; where left out 45 "
        "with PortableRunner, which waits for ever for a worker that is gone, and no limit elsewhere.",
    )
