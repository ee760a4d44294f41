"""Sends a job to a Ray cluster, with the thresher that runs it and the files that it names."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .cluster_jobs import Cluster
from .submit_bundle import Bundle, check_places
from .submit_wheel import PACKAGE, build_wheel

# Stopped by SIGINT a run tidies up as after Ctrl-C; Ray's default is SIGTERM and, after 3 seconds, SIGKILL.
_STOP: Final = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "20"}
_ON_RAY: Final = ("run.engine=ray", "run.ray.address=auto")


@dataclass(frozen=True)
class Submission:
    """A job as it is submitted: its file, files and folders that travel with it, and options of the run.

    `overrides` are those of `thresher run --set`; what they say of the engine replaces ours. `environment`
    holds variables for the driver and every worker. `python` is the command that runs Python there.
    """

    job: Path
    more: Sequence[Path] = ()
    overrides: Sequence[str] = ()
    limit: int | None = None
    allow_code: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = "python"

    @property
    def command(self) -> list[str]:
        """What the cluster runs, in a folder that holds what travelled."""
        command = [self.python, "-m", f"{PACKAGE}.jobs.submit_entrypoint", "run", self.job.name]
        for override in (*_ON_RAY, *self.overrides):
            command += ["--set", override]
        if self.limit is not None:
            command += ["--limit", str(self.limit)]
        return [*command, "--allow-code"] if self.allow_code else command


@dataclass(frozen=True)
class Prepared:
    """A submission that was found right: what Ray is told, and the paths that all machines must share."""

    name: str
    runtime_environment: Mapping[str, Any]
    shared: Sequence[str]


def prepare(submission: Submission, scratch: Path) -> Prepared:
    """Checks a submission and packs what travels into `scratch`, which has to stay until it is submitted.

    Raises JobFileError, BundleError and WheelError.
    """
    bundle = Bundle.of(submission.job, submission.more)
    # As a real path: the job's own paths are compared with it.
    with tempfile.TemporaryDirectory(prefix="there-", dir=scratch.resolve()) as there:
        overrides = (*_ON_RAY, *submission.overrides)
        job, shared = check_places(bundle, overrides, Path(there), allow_code=submission.allow_code)
    bundle.write(scratch / "job.zip")
    # Ray installs a wheel together with all that it requires, from the network. Unpacked it is found just
    # as well: the package, and its metadata as a module of its own.
    with zipfile.ZipFile(build_wheel(scratch / "wheel")) as wheel:
        wheel.extractall(scratch / "modules")
    return Prepared(
        job.name,
        {
            "working_dir": str(scratch / "job.zip"),
            "py_modules": sorted(str(path) for path in (scratch / "modules").iterdir()),
            "env_vars": {**_STOP, **submission.environment},
        },
        shared,
    )


def submit(submission: Submission, cluster: Cluster) -> tuple[str, Sequence[str]]:
    """Submits a job; returns its id, and the local paths in it that all machines must share.

    Raises what `prepare` does, and ClusterError.
    """
    with tempfile.TemporaryDirectory(prefix="thresher-submit-") as scratch:
        prepared = prepare(submission, Path(scratch))
        job = cluster.submit(submission.command, prepared.runtime_environment, prepared.name)
    return job, prepared.shared
