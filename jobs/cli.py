"""The command line. Only click is imported at the top, so that `thresher --help` answers at once.

Exit statuses: 0 done; 2 the job file, an option or the environment is wrong; 3 the accounts do not add up;
4 some parts could not be processed; 130 interrupted, to be resumed by the same command.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

try:
    import click

    from . import new_commands, submit_commands, train_commands
    from .command_group import FAILED_PARTS, INTERRUPTED, WRONG, ThresherGroup
except KeyboardInterrupt:
    sys.exit(130)

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(
    cls=ThresherGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 2 wrong job, option or environment, 3 accounts do not add up, "
    "4 parts failed, 130 interrupted.",
)
@click.version_option(package_name="thresher", message="%(prog)s %(version)s")
def cli() -> None:
    """Curate pretraining data: one job file from a web crawl to accounted-for shards.

    Start with `thresher run job.yaml --limit 1000`.
    """


def _overrides(command: Command) -> Command:
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set any value of the job, as in --set run.workers=4 or --set steps.3.select.top=5%.",
    )(command)


_job = click.argument("job", metavar="JOB")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_allow_code = click.option(
    "--allow-code", is_flag=True, help="Let the job import module:Class plug-ins: code of its author's."
)


@cli.command()
@_job
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Read no more than N records, into OUTPUT/limit-N.",
)
@_overrides
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Short for --set run.workers=N.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@_allow_code
def run(
    job: str,
    limit: int | None,
    overrides: tuple[str, ...],
    workers: int | None,
    quiet: bool,
    as_json: bool,
    allow_code: bool,
) -> None:
    """Run a job, or go on with it where it was interrupted.

    \b
    Example:
      thresher run job.yaml --limit 1000
    """
    from .loading import load
    from .progress import Bars, JsonLines, listener
    from .report import closing, funnel
    from .running import read_manifest
    from .running import run as run_job

    more = () if workers is None else (f"run.workers={workers}",)
    loaded = load(job, (*overrides, *more), allow_code=allow_code)
    watcher = listener(sys.stdout if as_json else sys.stderr, quiet=quiet, as_json=as_json)
    try:
        result = run_job(loaded, limit=limit, listener=watcher, allow_code=allow_code)
    finally:
        if isinstance(watcher, Bars):
            watcher.close()
    manifest = read_manifest(result.output)
    if isinstance(watcher, JsonLines):
        watcher.write("finished", output=result.output, seconds=round(result.seconds, 3), **manifest)
    elif not quiet:
        click.echo(funnel(manifest))
        click.echo(closing(manifest["totals"], manifest["shards"], result.output, result.seconds))
    if result.failed:
        from .failures import tell_failed

        click.echo(tell_failed(result.failed), err=True)
        click.get_current_context().exit(FAILED_PARTS)


@cli.command("try")
@click.argument("step", metavar="STEP")
@click.option("--text", help="The record's text, an image's caption; for url steps, its address.")
@click.option("--file", type=click.Path(dir_okay=False), help="A file that holds it; - is standard input.")
@click.option("--image", type=click.Path(dir_okay=False), help="A file that holds the record's image.")
@click.option("--url", help="The record's address.")
@_json
@_allow_code
def try_(
    step: str,
    text: str | None,
    file: str | None,
    image: str | None,
    url: str | None,
    as_json: bool,
    allow_code: bool,
) -> None:
    """Run one step on one text and say what decides.

    \b
    Examples:
      thresher try 'filter: gopher_quality' --text 'Lorem ipsum dolor.'
      thresher try 'extract: trafilatura' --file page.html
      thresher try 'language: {keep: [en]}' --text 'Guten Tag'
      thresher try 'filter: datacomp_basic' --image cat.jpg --text 'a cat on a mat'
    """
    from . import trying

    if (text is not None and file is not None) or (text is None and file is None and image is None):
        raise click.UsageError("give one of --text and --file, or an --image")
    payload = (text or "").encode("utf-8", "replace") if file is None else _read(file)
    picture = None if image is None else _read(image)
    answer = trying.try_step(step, payload, allow_code=allow_code, url=url, image=picture)
    _answer(answer, trying.told, as_json)


@cli.command()
@_job
@_overrides
@_json
@_allow_code
def plan(job: str, overrides: tuple[str, ...], as_json: bool, allow_code: bool) -> None:
    """Check a job and show its stages without running it.

    \b
    Example:
      thresher plan job.yaml
    """
    from .loading import load

    loaded = load(job, overrides, allow_code=allow_code)
    # Only now: the planner imports every kernel, and a wrong job should be told at once.
    from ..pipeline.planner import describe
    from .models import by_stage

    _answer(by_stage(describe(loaded, allow_code), loaded, allow_code), _told_plan, as_json)


@cli.command()
@click.argument("place", metavar="JOB|OUTPUT")
@_overrides
@_json
def status(place: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show how far a run is.

    \b
    Example:
      thresher status job.yaml
    """
    from . import status as reading
    from .places import find

    _answer(reading.status(find(place, overrides)), reading.told, as_json)


submit_commands.register(cli)


@cli.command()
@click.argument("file", metavar="PART|SHARD")
@click.option("--rows", type=click.IntRange(min=0), default=3, show_default=True, help="Records to show.")
@click.option("--columns", is_flag=True, help="Show the columns only.")
@_json
def inspect(file: str, rows: int, columns: bool, as_json: bool) -> None:
    """Show columns and first records of a shard or a part.

    \b
    Examples:
      thresher inspect out/shard-00000.parquet --rows 5
      thresher inspect out/.work/stages/00-read-1a2b3c4d5e6f/00000.json
    """
    from . import inspection

    answer = inspection.inspect(file, 0 if columns else rows)
    _answer(answer, lambda found: inspection.told(found, columns_only=columns), as_json)


@cli.command()
@click.argument("record", metavar="ID")
@click.option(
    "--output", "place", required=True, metavar="JOB|OUTPUT", help="The run's output folder or job."
)
@_overrides
@_json
def why(record: str, place: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Tell what became of a record, at which step and why.

    \b
    Example:
      thresher why urn:uuid:6a7f1c2e-30b4-4d15-9f0e-8c5d2b719a64 --output out/
    """
    from . import why as telling
    from .places import find

    _answer(telling.why(find(place, overrides), record), telling.told, as_json)


@cli.command()
@click.argument("name", required=False)
@_json
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes of published pipelines, or print one as a job file.

    \b
    Example:
      thresher recipes fineweb > job.yaml
    """
    from . import recipe_book

    try:
        recipe = recipe_book.read(name) if name else None
    except recipe_book.UnknownRecipeError as error:
        raise click.UsageError(str(error)) from None
    if recipe:
        _answer(vars(recipe), lambda _: recipe.text.rstrip("\n"), as_json)
    else:
        _answer(recipe_book.listed(), recipe_book.told, as_json)


@cli.command()
def schema() -> None:
    """Print the JSON Schema of the job file, for editors.

    \b
    Example:
      thresher schema > job.schema.json
    """
    from ..schemas.job import job_schema

    click.echo(json.dumps(job_schema(), indent=1, ensure_ascii=False))


@cli.command()
@click.argument("place", metavar="JOB|OUTPUT")
@_overrides
@click.option(
    "--keep",
    type=click.Choice(["parts", "last", "signals", "nothing"]),
    default="nothing",
    show_default=True,
    help="parts: what some run could read again; last: what the last run read; signals: what `why` tells.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask. Of a work directory in a store it says that no run is at work there, which a store "
    "does not show.",
)
def clean(place: str, overrides: tuple[str, ...], keep: str, yes: bool) -> None:
    """Remove a run's work directory, or what of it is of no more use; the output stays.

    \b
    Examples:
      thresher clean job.yaml --yes
      thresher clean job.yaml --keep last
    """
    from . import cleaning
    from .places import find
    from .progress import size

    run, kept = find(place, overrides), cast(cleaning.Keep, keep)
    bytes_ = cleaning.check_cleanable(run.work, kept, run.output)
    if not yes and not click.confirm(cleaning.question(run.work, bytes_), prompt_suffix=" "):
        click.echo("nothing was removed")
        return
    freed = size(cleaning.clean(run.work, kept, run.output))
    click.echo(f"removed {run.work}: {freed} freed" if keep == "nothing" else f"{run.work}: {freed} freed")


@cli.command()
@click.option("--work", default=".", type=click.Path(path_type=Path), help="Where work would be kept.")
@_json
def doctor(work: Path, as_json: bool) -> None:
    """Say what is installed, usable and found here.

    \b
    Example:
      thresher doctor
    """
    from . import doctor as examining

    answer = examining.examine(work)
    _answer(answer, examining.told, as_json)
    if answer["problems"]:
        click.get_current_context().exit(WRONG)


@cli.group()
def train() -> None:
    """Train a model that a job scores with.

    \b
    Example:
      thresher train fasttext --positive good.jsonl --negative crawl.jsonl --out hq.bin
    """


train_commands.register(train)
new_commands.register(cli)


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror or error}") from None


def _answer(value: Any, told: Callable[[Any], str], as_json: bool) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str) if as_json else told(value))


def _told_plan(stages: list[dict[str, Any]]) -> str:
    from .models import told
    from .status import where

    lines: list[str] = []
    for number, stage in enumerate(stages, 1):
        own = f", {words}" if (words := where(stage)) else ""
        lines.append(f"{number}. {stage['stage']} ({stage['kind']}{own})")
        named = (("steps", stage["steps"]), ("reads", stage["reads"]), ("keeps", stage["keeps"]))
        lines += [f"     {key}: {', '.join(values)}" for key, values in named if values]
        lines += [f"     model: {told(model)}" for model in stage.get("models", ())]
    return "\n".join(lines)


def main() -> None:
    """The `thresher` command."""
    try:
        cli(prog_name="thresher")
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        _leave(ended.code or 0)


def _leave(status: int) -> None:
    """Ends the process without the destructors of libraries: now and then those of Arrow 25 abort, and a run
    that has ended well would end with 134."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(status)
