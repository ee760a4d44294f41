"""The group of commands, which turns errors into messages and exit statuses."""

from __future__ import annotations

from typing import Any, Final

import click

WRONG: Final = 2
UNBALANCED: Final = 3
FAILED_PARTS: Final = 4
INTERRUPTED: Final = 130


class ThresherGroup(click.Group):
    """Turns what a person can mend into one message and an exit status; anything else is our bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted; the same command goes on from here", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            from .failures import explain, is_interrupt

            if is_interrupt(error):
                raise click.exceptions.Exit(INTERRUPTED) from None
            status, message = explain(error)
            if status is None:
                raise
            click.echo(message, err=True)
            ctx.exit(status)

    def list_commands(self, ctx: click.Context) -> list[str]:
        # In the order in which a person meets them, not by the alphabet.
        return list(self.commands)
