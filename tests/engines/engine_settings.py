"""The engines as the conformance suite sets them up: with real services, in processes of their own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from beam_services import beam_services
from ray_cluster import ray_cluster
from thresher.pipeline.engines.opening import open_engine
from thresher.pipeline.stage import Engine
from thresher.schemas.job import Job

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """An engine that runs, as a job names it."""

    run: Mapping[str, Any]  # what a job says
    work: str  # a folder or a URL that all its workers reach
    most_loads: int  # processes that may hold the model of a stage with two actors
    scores_on: str | None = None  # the engine of the scoring step; None: that of the job
    takes_output: bool = False  # whether shards go where the work is

    def new_folder(self) -> str:
        """Where nobody has committed anything."""
        folder = f"{self.work}/{uuid.uuid4().hex[:12]}"
        if "://" not in folder:
            Path(folder).mkdir(parents=True)
        return folder

    def open(self, run: str) -> Engine:
        """The engine, for stages that do not come from a job."""
        described = {"name": "stages", "input": "none", "output": {"path": "none"}, "run": self.run}
        job = Job.model_validate(described)
        return open_engine(job.run.engine, job, run)


@contextmanager
def local(workers: int, folder: Path) -> Iterator[Setting]:
    yield Setting({"engine": "local", "workers": workers}, str(folder), workers)


@contextmanager
def local_in_a_store(folder: Path) -> Iterator[Setting]:
    with store() as url, fresh_forkserver():
        yield Setting({"engine": "local", "workers": 2}, url, 2, takes_output=True)


@contextmanager
def store() -> Iterator[str]:
    """The URL of a bucket of a local S3 server, found through the environment by what starts now."""
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")
    import s3fs

    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = f"engines-{uuid.uuid4().hex[:8]}"
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}"
        s3fs.S3FileSystem.clear_instance_cache()
    moto.stop()


@contextmanager
def fresh_forkserver() -> Iterator[None]:
    """Workers are forked from a server that has the environment of the time at which it started."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextmanager
def beam_in_process(folder: Path) -> Iterator[Setting]:
    pytest.importorskip("apache_beam", reason="engine beam needs apache-beam")
    yield Setting({"engine": "beam", "workers": 2}, str(folder), 1)


@contextmanager
def beam_portable(folder: Path) -> Iterator[Setting]:
    pytest.importorskip("apache_beam", reason="engine beam needs apache-beam")
    with beam_services(folder / "services", (HERE,)) as services:
        options = {"runner": "PortableRunner", "options": services.options}
        yield Setting({"engine": "beam", "workers": 2, "beam": options}, str(folder / "work"), 2)


@contextmanager
def ray_of_its_own(folder: Path, engine: str = "ray") -> Iterator[Setting]:
    """A cluster on this machine that the engine starts and ends."""
    pytest.importorskip("ray", reason="engine ray needs ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        scores_on = None if engine == "ray" else "ray"
        yield Setting({"engine": engine, "workers": 2}, str(folder), 2, scores_on)


@contextmanager
def ray_with_nodes(folder: Path) -> Iterator[Setting]:
    """Three nodes that share nothing but the store."""
    pytest.importorskip("ray", reason="engine ray needs ray")
    with store() as url:
        environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        modules = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        with ray_cluster(3, environment={**environment, "PYTHONPATH": modules}) as cluster:
            described = {"engine": "ray", "workers": 3, "ray": {"address": cluster.address}}
            yield Setting(described, url, 2, takes_output=True)


@contextmanager
def beam_with_scores_on_ray(folder: Path) -> Iterator[Setting]:
    pytest.importorskip("apache_beam", reason="engine beam needs apache-beam")
    with ray_of_its_own(folder, "beam") as setting:
        yield setting


OPENED: dict[str, Callable[[Path], AbstractContextManager[Setting]]] = {
    "local with 1 worker": partial(local, 1),
    "local with 2 workers": partial(local, 2),
    "local in a store": local_in_a_store,
    "beam in process": beam_in_process,
    "beam portable": beam_portable,
    "ray": ray_of_its_own,
    "ray with nodes": ray_with_nodes,
    "beam with scores on ray": beam_with_scores_on_ray,
}
# For stages that do not come from a job, one that names its engine is nothing new.
SETTINGS = tuple(name for name in OPENED if name != "beam with scores on ray")
