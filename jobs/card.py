"""The dataset card: a README.md by which a person, and Hugging Face `datasets`, can use an output."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from .licences import UNKNOWN, front_matter
from .models import models
from .progress import counted, size
from .report import cell, language_table, step_table

if TYPE_CHECKING:
    from ..schemas.job import Job

# The size classes of a dataset card of Hugging Face (huggingface_hub, DatasetCardData.size_categories).
_SIZES: Final = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_TASKS: Final = {"text": "text-generation", "image-text": "zero-shot-image-classification"}
# What of `run` the output depends on; the rest says where and how wide it ran.
_DECIDING: Final = ("seed", "part", "ledger")


def card(job: Job, manifest: Mapping[str, Any], allow_code: bool = False) -> str:
    """The card of a finished run, from its job and its manifest; `allow_code` as for the run.

    It holds no time, and no path but those that the job names, below its folder without that folder: equal
    runs leave equal cards, wherever they ran.
    """
    from ..pipeline.output_directory import CARD_MARK
    from ..schemas.plain_yaml import write_yaml

    totals = manifest["totals"]
    recipe = write_yaml(_recipe(job))
    fence = "`" * max(3, 1 + max(map(len, _runs_of_ticks(recipe)), default=0))
    lines = [
        "---",
        _front_matter(job, manifest).rstrip(),
        "---",
        "",
        CARD_MARK,
        "",
        f"# {cell(job.name)}",
        "",
    ]
    lines += [_summary(manifest), "", *_use(job), "", "## Counts", "", *step_table(totals)]
    if totals.get("languages"):
        lines += ["", "## Languages", "", *language_table(totals)]
    lines += ["", "## Sources", "", *_sources(job)]
    read = list(models(job, allow_code))
    if read:
        lines += ["", "## Models and lists", "", "| file | step | SHA-256 | licence |", "|---|---|---|---|"]
    for model in read:
        name, digest = _shown(model.name, job.run.directory), model.sha256 and f"`{model.sha256}`"
        lines.append(f"| {cell(name)} | {cell(model.step)} | {digest} | {cell(model.licence)} |")
    lines += ["", "## Recipe", "", f"{fence}yaml", recipe.rstrip(), fence]
    return "\n".join(lines) + "\n"


def _front_matter(job: Job, manifest: Mapping[str, Any]) -> str:
    import yaml

    from ..pipeline.sinks import suffix_of

    totals = manifest["totals"]
    fields: dict[str, Any] = {"pretty_name": job.name}
    fields |= front_matter(source.licence for source in job.input)
    languages = [_code(name) for name in totals.get("languages", {})]
    if languages:
        fields["language"] = sorted(set(languages))
    fields["size_categories"] = [_size(totals["written"])]
    fields["task_categories"] = [_TASKS[job.modality]]
    if job.output.format != "datacomp":
        pattern = f"shard-*{suffix_of(job.output.format, job.output.compression)}"
        files = [{"split": "train", "path": pattern}]
        fields["configs"] = [{"config_name": "default", "data_files": files}]
    # Read with YAML 1.1 by the hub, so written with it: the language code no is a string.
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return text


def _summary(manifest: Mapping[str, Any]) -> str:
    totals, shards = manifest["totals"], manifest["shards"]
    bytes_ = size(sum(shard["bytes"] for shard in shards))
    text = f"{counted(totals['written'], 'record')} in {counted(len(shards), 'shard')} ({bytes_})"
    if "tokens" in totals:
        text += f", {totals['tokens']:,} tokens of {cell(manifest['tokenizer']['name'])}"
    return (
        f"{text}, curated with thresher from {counted(totals['in'], 'record')}. `manifest.json` has the "
        "SHA-256 of each shard, `report.md` says what was removed and why, and `ledger/` says it of each "
        "record."
    )


def _use(job: Job) -> Iterator[str]:
    if job.output.format == "datacomp":
        yield "`subset.npy` names the records of DataComp's pool that stay, as its resharder reads them."
        return
    yield "```python"
    yield "from datasets import load_dataset"
    yield ""
    yield 'records = load_dataset("path/to/this/folder", split="train", streaming=True)'
    yield "```"
    yield ""
    own = "`image`, `text` (its caption), `width`, `height`, `sha256`" if job.modality != "text" else "`text`"
    yield f"A record has `id`, {own}, `url`, `source` (file and place in it), `date`, `lang`, `lang_score`,"
    yield "`meta` (the other fields of its source, as JSON), and the scores that the steps below gave it."
    if job.output.embeddings is not None:
        folder = "NAME_emb/" if job.output.embeddings.layout == "clip-retrieval" else "metadata/"
        names = ", ".join(f"`{name}`" for name in job.output.embeddings.arrays)
        yield ""
        yield f"Embeddings are in `{folder}` as NumPy files, row for row with the shards: {names}; NaN where"
        yield "a record has none. `metadata/` says in Parquet whose they are."


def _sources(job: Job) -> Iterator[str]:
    yield "| input | path | format | licence |"
    yield "|---|---|---|---|"
    for source in job.input:
        path, format_ = _shown(source.path, job.run.directory), source.format or "by name"
        licence = cell(source.licence or UNKNOWN)
        yield f"| {cell(source.name)} | {cell(path)} | {format_} | {licence} |"


def _recipe(job: Job) -> dict[str, Any]:
    """The resolved job without places of this machine."""
    resolved = job.resolved()
    resolved["output"].pop("path")
    resolved["run"] = {key: resolved["run"][key] for key in _DECIDING}
    shown: dict[str, Any] = _each(resolved, job.run.directory)
    return shown


def _each(value: Any, directory: str) -> Any:
    if isinstance(value, dict):
        return {key: _each(item, directory) for key, item in value.items()}
    if isinstance(value, list):
        return [_each(item, directory) for item in value]
    return _shown(value, directory) if isinstance(value, str) else value


def _shown(path: str, directory: str) -> str:
    """A path below the job's folder without that folder."""
    start = f"{directory.rstrip('/')}/"
    return path.removeprefix(start) if directory else path


def _code(language: str) -> str:
    """`eng_Latn`, as GlotLID says it, without its script."""
    return language.partition("_")[0]


def _size(records: int) -> str:
    """The size class: `n<1K`, `1K<n<10K` … `n>1T`."""
    step = next((number for number in range(len(_SIZES)) if records < 10 ** (3 + number)), len(_SIZES))
    if step == 0:
        return f"n<{_SIZES[0]}"
    return f"n>{_SIZES[-1]}" if step == len(_SIZES) else f"{_SIZES[step - 1]}<n<{_SIZES[step]}"


def _runs_of_ticks(text: str) -> list[str]:
    return re.findall(r"`+", text)
