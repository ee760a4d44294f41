"""What travels to a cluster with a job: its file and what lies beside it, as far as it is named."""

from __future__ import annotations

import contextlib
import glob
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import loading
from .outline import URL
from .problems import JobFileError, Problem

if TYPE_CHECKING:
    from ..schemas.job import Job

# Ray's dashboard refuses a larger body (DASHBOARD_CLIENT_MAX_SIZE of ray._private.ray_constants, 2.60).
MOST_BYTES: Final = 100 * 1024**2
_LEFT_OUT: Final = (".git", ".venv", "venv", "__pycache__")
_OLDEST_DATE: Final = (1980, 1, 1, 0, 0, 0)


class BundleError(Exception):
    """Something cannot travel with a job; the message says what to do."""


@dataclass(frozen=True)
class Bundle:
    """Files for the folder in which a job starts on the cluster: their names there, and where they lie here.

    `job` is the name of the job file among them.
    """

    job: str
    files: dict[str, Path]

    @classmethod
    def of(cls, job: Path, more: Sequence[Path] = ()) -> Bundle:
        """The job file and `more` files and folders, named as they are seen from it.

        Raises BundleError where one is missing, or lies outside of the folder of the job file.
        """
        folder = job.absolute().parent
        files = {job.name: job.absolute()}
        for path in more:
            name = os.path.relpath(path.absolute(), folder)
            if name == os.pardir or name.startswith(os.pardir + os.sep):
                raise BundleError(
                    f"--with {path}: lies outside of {folder}, the folder of the job file, to which names in "
                    "the job are relative; copy it there, or link to it from there"
                )
            if not path.exists():
                raise BundleError(f"--with {path}: no such file or folder")
            files |= {str(Path(name, inner)): place for inner, place in _files_of(path.absolute())}
        return cls(job.name, files)

    def write(self, target: Path) -> None:
        """Packs the files; the same files make the same bytes. Raises BundleError where they are too many."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, place in sorted(self.files.items()):
                info = zipfile.ZipInfo(name, _OLDEST_DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                with place.open("rb") as source, archive.open(info, "w", force_zip64=True) as packed:
                    while block := source.read(1 << 20):
                        packed.write(block)
        size = target.stat().st_size
        if size > MOST_BYTES:
            largest = max(self.files, key=lambda name: self.files[name].stat().st_size)
            raise BundleError(
                f"what travels with the job is {size:,} bytes, and a cluster takes {MOST_BYTES:,}; put "
                f"{largest} where all machines of the cluster find it: in their image, on a shared disk"
            )

    def link(self, folder: Path) -> Path:
        """Lays the files out in `folder`, as links to them; returns the job file there."""
        for name, place in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(place)
        return folder / self.job


def check_places(
    bundle: Bundle, overrides: Sequence[str], folder: Path, *, allow_code: bool = False
) -> tuple[Job, list[str]]:
    """The job as the cluster will read it, and the local paths in it that all its machines must share.

    Reads it from an empty `folder` in which there is what travels and nothing else. Raises JobFileError
    where it is wrong, or names something by a relative path that does not travel, or that a run writes to.
    """
    label, home = str(bundle.files[bundle.job]), bundle.files[bundle.job].parent
    there = bundle.link(folder)
    with contextlib.chdir(folder):
        try:
            job = loading.load(there, overrides, allow_code=allow_code)
            found = []
        except JobFileError as error:
            job, found = _without_checks(there, overrides, allow_code, label), error.problems
    values = job.resolved()
    problems = [
        _retold(problem, values, folder, home)
        for problem in found
        if not _is_elsewhere(problem, values, folder)
    ]
    problems += _unwritable(values, folder, overrides, bundle)
    if problems:
        raise JobFileError(problems, label)
    places = [source["path"] for source in values["input"]] + [
        values["output"]["path"],
        values["run"]["work"],
    ]
    # Models and lists: what is absolute and is there, or stands for it on machines that are not this one.
    places += [text for text in _texts(values["steps"]) if os.path.isabs(text) and os.path.exists(text)]
    shared = [path for path in dict.fromkeys(places) if os.path.isabs(path) and not _is_in(path, folder)]
    return job, shared


def _without_checks(job: Path, overrides: Sequence[str], allow_code: bool, label: str) -> Job:
    try:
        return loading.load(job, overrides, allow_code=allow_code, check=False)
    except JobFileError as error:
        raise JobFileError(error.problems, label) from None


def _files_of(path: Path) -> Iterator[tuple[str, Path]]:
    if not path.is_dir():
        yield ".", path
        return
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), path), Path(folder, name)


def _is_elsewhere(problem: Problem, values: Any, folder: Path) -> bool:
    """Whether it may be none on the cluster: what it names is a place that this machine need not see."""
    if problem.path[:1] not in (("input",), ("steps",)):
        return False
    named = [text for text in _texts(_at(values, problem.path)) if text in problem.message]
    return any(
        URL.match(text) or (os.path.isabs(text) and not _is_in(text, folder) and not glob.glob(text))
        for text in named
    )


def _retold(problem: Problem, values: Any, folder: Path, home: Path) -> Problem:
    """The problem, with the way out where the file is here and only was not named."""
    for text in _texts(_at(values, problem.path)):
        name = os.path.relpath(text, folder) if _is_in(text, folder) else text
        literal = name.partition("*")[0].rpartition("/")[0] if "*" in name else name
        if not os.path.isabs(name) and not URL.match(name) and name in problem.message:
            beside = home / literal
            way = f"add --with {os.path.relpath(beside)}, or " if literal and beside.exists() else ""
            message = (
                f"{name} does not travel with the job; {way}name a place that every machine of the "
                "cluster reaches: a URL, or an absolute path on a shared disk"
            )
            return Problem(problem.path, message, "", problem.line, problem.override)
    return problem


def _unwritable(values: Any, folder: Path, overrides: Sequence[str], bundle: Bundle) -> Iterator[Problem]:
    output, work = values["output"]["path"], values["run"]["work"]
    if _is_in(output, folder):
        yield Problem(
            ("output", "path"),
            f"{os.path.relpath(output, folder)} is relative, and the folder in which the job starts on the "
            "cluster is removed after it; write an absolute path on a shared disk, or a URL in a store",
        )
    elif URL.match(output) and not _names_work(bundle, overrides):
        yield Problem(
            ("run", "work"),
            "left out, it is a folder of one machine; name one that every machine of the cluster reaches, "
            f"as in --set run.work={output.rstrip('/')}-work",
        )
    elif _is_in(work, folder):
        yield Problem(
            ("run", "work"),
            f"{os.path.relpath(work, folder)} is relative; write an absolute path on a shared disk, or a URL",
        )


def _names_work(bundle: Bundle, overrides: Sequence[str]) -> bool:
    from . import overriding
    from .yaml_source import read_yaml

    document = read_yaml(bundle.files[bundle.job].read_bytes())
    overriding.apply(document, overrides)
    run = document.value.get("run") if isinstance(document.value, dict) else None
    return isinstance(run, dict) and bool(run.get("work"))


def _is_in(path: str, folder: Path) -> bool:
    return path == str(folder) or path.startswith(f"{folder}{os.sep}")


def _at(value: Any, path: Sequence[str | int]) -> Any:
    """What stands at a path, or as far along it as there is something."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            break
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
