"""Finds scorers, refiners and selectors by name: thresher's own, installed ones, and code beside a job."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

from ..schemas.contracts import Refiner, Scorer, Selector

P = TypeVar("P", Scorer, Refiner, Selector)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """One kind of plug-in: what it is called, its contract, and where its classes are found."""

    noun: str
    base: type[P]
    own: Mapping[str, str]  # name in a job: where the class is

    @property
    def group(self) -> str:
        """The entry point group of installed packages."""
        return f"thresher.{self.noun}s"


SCORER: Final = Kind(
    "scorer",
    Scorer,  # type: ignore[type-abstract]
    {
        "fasttext": "thresher.scorers.fasttext:FastTextScorer",
        "kenlm": "thresher.scorers.kenlm:KenLMScorer",
        "word_list": "thresher.scorers.word_list:WordListScorer",
        "tokens": "thresher.scorers.tokens:TokenScorer",
        "url_words": "thresher.scorers.word_list:UrlWordsScorer",
        "stored": "thresher.scorers.stored_embedding:StoredEmbeddingScorer",
        "dsir": "thresher.scorers.dsir:DsirScorer",
        "expr": "thresher.scorers.expression:ExpressionScorer",
        "similarity": "thresher.scorers.similarity:SimilarityScorer",
        "zero_shot": "thresher.scorers.clip.prompts:ZeroShotScorer",
        "q16": "thresher.scorers.clip.q16:Q16Scorer",
        "linear_head": "thresher.scorers.heads.linear:LinearHeadScorer",
        "entities": "thresher.scorers.clip.entities:EntityScorer",
        "clip": "thresher.scorers.clip.scorer:ClipScorer",
        "causal_lm": "thresher.scorers.lm.scoring:CausalLMScorer",
        "encoder": "thresher.scorers.encoders.scoring:EncoderScorer",
        "image_encoder": "thresher.scorers.image_encoder:ImageEncoderScorer",
        "votes": "thresher.scorers.votes.functions:VotesScorer",
        "label_model": "thresher.scorers.votes.scorer:LabelModelScorer",
        "prompted": "thresher.scorers.votes.prompted:PromptedScorer",
        "majority_vote": "thresher.scorers.votes.scorer:MajorityVoteScorer",
        "rank_agreement": "thresher.scorers.preselect:RankAgreementScorer",
        "token_weights": "thresher.scorers.token_weights:TokenWeightsScorer",
    },
)
REFINER: Final = Kind(
    "refiner",
    Refiner,  # type: ignore[type-abstract]
    {
        "c4_lines": "thresher.filters.text.line_edits:C4Lines",
        "refinedweb_lines": "thresher.filters.text.line_edits:RefinedWebLines",
        "pii": "thresher.filters.text.pii.find:PiiRefiner",
    },
)
# The job's own verbs are thresher's selectors.
SELECTOR: Final = Kind("selector", Selector, {})  # type: ignore[type-abstract]

_importing = threading.Lock()
# Modules that came from a job's folder: for each name its folder and the digest of its source.
_from_folders: dict[str, tuple[Path, str]] = {}


class PluginError(Exception):
    """A plug-in cannot be found or built; the message says why and what to write instead."""


def installed(kind: Kind[Any]) -> dict[str, EntryPoint]:
    """The plug-ins that installed packages offer in the kind's entry point group, by name."""
    return {point.name: point for point in sorted(entry_points(group=kind.group))}


def find(kind: Kind[P], name: str, *, directory: Path | None = None, allow_code: bool = False) -> type[P]:
    """The class of a plug-in.

    `name`: one of thresher's own, of an entry point, or `module:Class`; such a module is looked for in
    `directory`, the job's folder, before the installed packages, and only if `allow_code` is true. What it
    imports from its folder it must import at its top: the folder is on `sys.path` only meanwhile. Raises
    PluginError if there is none, the nearest name in its message.
    """
    plugins: Mapping[str, EntryPoint] = installed(kind)
    if name in kind.own:
        module, _, attribute = kind.own[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
    elif ":" in name:
        if not allow_code:
            raise PluginError(f"{name} is code of your own; allow it with --allow-code on the command line")
        found = _attribute(name, directory)
    elif name in plugins:
        found = _load(kind, name, plugins[name])
    else:
        names = sorted({*kind.own, *plugins})
        there = f"there are {', '.join(names)}" if names else "none is installed; write module:Class"
        raise PluginError(f"unknown {kind.noun} {name!r}{_nearest(name, names)}; {there}")
    if not (isinstance(found, type) and issubclass(found, kind.base)):
        raise PluginError(
            f"{name} is not a {kind.noun}: write a class derived from thresher.scorers.{kind.base.__name__}"
        )
    return found


def build(
    kind: Kind[P],
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    directory: Path | None = None,
    allow_code: bool = False,
) -> P:
    """The plug-in `name`, built from `arguments` and not yet open.

    Raises PluginError if it cannot be found, if an argument is missing or unknown, or if building it fails.
    """
    plugin = find(kind, name, directory=directory, allow_code=allow_code)
    given = dict(arguments or {})
    parameters = inspect.signature(plugin).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for argument in given:
        if not takes_any and argument not in parameters:
            takes = f"it takes {', '.join(parameters)}"
            raise PluginError(
                f"{kind.noun} {name} has no argument {argument!r}{_nearest(argument, parameters)}; {takes}"
            )
    try:
        return plugin(**given)
    except Exception as error:
        raise PluginError(f"{kind.noun} {name} cannot be built: {error or type(error).__name__}") from error


def fingerprint(
    kind: Kind[P],
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    checksums: Iterable[str] = (),
    directory: Path | None = None,
    allow_code: bool = False,
) -> str:
    """SHA-256, in hexadecimal, of what a plug-in's output depends on.

    That is its class's name and `version`, its arguments, the `checksums` of its models in their order, and
    for a class that is not thresher's own the source of its module. Raises PluginError as `find` does, and if
    the class declares no version or the arguments are not plain values.
    """
    plugin = find(kind, name, directory=directory, allow_code=allow_code)
    version = getattr(plugin, "version", None)
    if not isinstance(version, int):
        raise PluginError(f"{kind.noun} {name} declares no version; write `version = 1` in the class")
    parts = {
        "class": f"{plugin.__module__}:{plugin.__qualname__}",
        "version": version,
        "arguments": dict(arguments or {}),
        "models": list(checksums),
        "source": None if name in kind.own else _sources(plugin.__module__),
    }
    try:
        text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{kind.noun} {name}: its arguments must be plain values that JSON can hold: {error}"
        ) from error
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _load(kind: Kind[Any], name: str, point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist else "an installed package"
        raise PluginError(f"{kind.noun} {name} of {package} cannot be imported: {error}") from error


def _attribute(name: str, directory: Path | None) -> Any:
    module_name, _, path = name.partition(":")
    if not path or not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise PluginError(f"{name!r} does not name a class; write module:Class")
    module = _import(module_name, directory)
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            classes = [key for key, value in vars(found).items() if isinstance(value, type)]
            raise PluginError(
                f"{module_name} ({_where(module)}) has no class {part!r}{_nearest(part, classes)}"
            )
        found = getattr(found, part)
    return found


def _import(name: str, directory: Path | None) -> ModuleType:
    folder = directory.resolve() if directory else None
    with _importing:
        _forget_stale(folder)
        path, before = list(sys.path), set(sys.modules)
        if folder:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            looked = f"{folder} or among " if folder else ""
            missing = f"no module {error.name} in {looked}the installed packages"
            raise PluginError(f"module {name} cannot be imported: {missing}") from error
        except Exception as error:
            raise PluginError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            sys.path[:] = path
            if folder:
                _remember(folder, set(sys.modules) - before)
    if folder and _candidates(name, folder) and not _is_in(module, folder):
        raise PluginError(
            f"module {name} in {folder} is hidden by a module of that name which is loaded already "
            f"({_where(module)}); give yours another name"
        )
    return module


def _remember(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        module = sys.modules[name]
        if _is_in(module, folder):
            _from_folders[name] = (folder, _source_digest(module))


def _forget_stale(folder: Path | None) -> None:
    """Drops the modules of other jobs' folders, and all of this folder's if one of them has changed."""
    stale = {
        known
        for name, (known, digest) in _from_folders.items()
        if known != folder or name not in sys.modules or _source_digest(sys.modules[name]) != digest
    }
    for name in [name for name, (known, _) in _from_folders.items() if known in stale]:
        sys.modules.pop(name, None)
        del _from_folders[name]


def _candidates(name: str, folder: Path) -> list[Path]:
    path = folder.joinpath(*name.split("."))
    return [place for place in (path.with_suffix(".py"), path / "__init__.py") if place.is_file()]


def _is_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if not file:
        return False
    # A file in the folder may be a link to one elsewhere.
    return any(path.is_relative_to(folder) for path in (Path(file).absolute(), Path(file).resolve()))


def _sources(module: str) -> list[list[str]]:
    """Digests of the module and, where it came from a job's folder, of all that was loaded from there."""
    folder = _from_folders.get(module, (None, ""))[0]
    names = {module, *(name for name, (known, _) in _from_folders.items() if folder and known == folder)}
    return [[name, _source_digest(sys.modules[name])] for name in sorted(names)]


def _source_digest(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""


def _where(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or "built in")


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean {near[0]}?)" if near else ""
