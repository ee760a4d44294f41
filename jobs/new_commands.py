"""The commands of `thresher new`."""

from __future__ import annotations

from pathlib import Path

import click


def register(group: click.Group) -> None:
    """Adds the commands to `thresher`."""
    group.add_command(new)


@click.group()
def new() -> None:
    """Write the start of a plug-in, with its test.

    \b
    Example:
      thresher new scorer tone
    """


@new.command("scorer")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["columns", "model"]),
    default="columns",
    show_default=True,
    help="columns: computes from columns alone. model: loads a file in open, and prepares ahead of it.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="The folder to write into; this one where left out.",
)
def scorer(name: str, kind: str, into: Path) -> None:
    """Write a scorer NAME.py, its test, a job that uses it, and records to try it on.

    The scorer works as it is written: its test passes, the job runs. Change what it computes, and keep what
    the test says. NAME is that of the module, in lower case; the class is called after it. Nothing that is
    there is overwritten.

    \b
    Examples:
      thresher new scorer tone
      pytest test_tone.py
      thresher run tone.yaml --allow-code
    """
    from . import new_scorer

    try:
        written = new_scorer.write(name, kind, into)
    except new_scorer.NameRefused as error:
        raise click.UsageError(str(error)) from None
    click.echo(new_scorer.told(written))
