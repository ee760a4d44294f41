"""The commands `thresher submit` and `thresher jobs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from .cluster_jobs import Cluster

Command = TypeVar("Command", bound=Callable[..., Any])
BEAM: Final = "beam"
RUNNERS: Final = ("FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner")

_to = click.option(
    "--to", required=True, metavar="ADDRESS", help="The cluster's dashboard: http://HOST:8265, or ray://HOST."
)
_access = (
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The cluster's token; RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token if left out.",
    ),
    click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent with each request."),
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def register(group: click.Group) -> None:
    """Adds the commands to `thresher`."""
    group.add_command(submit)
    group.add_command(jobs)


def _options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.argument("job", metavar="JOB", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="ADDRESS|beam",
    help="A Ray cluster by its dashboard (http://HOST:8265, or ray://HOST), or beam.",
)
@_options(
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set any value of the job, as in run."
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="Read no more than N records, as in run."
    ),
    click.option("--allow-code", is_flag=True, help="Let the job import module:Class plug-ins, as in run."),
    click.option(
        "--with",
        "more",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Ray: a file or folder beside the job file that travels with it: a model, a plug-in's module.",
    ),
    click.option(
        "--env",
        "environment",
        multiple=True,
        metavar="NAME=VALUE",
        help="Ray: a variable of every process of the job. Whoever sees the dashboard sees it.",
    ),
    click.option(
        "--python",
        default="python",
        show_default=True,
        metavar="COMMAND",
        help="Ray: what runs Python on the cluster.",
    ),
    click.option("--wait", is_flag=True, help="Ray: follow the log, and end with the job's exit status."),
    *_access,
    click.option("--runner", metavar="NAME", help=f"Beam: {', '.join(RUNNERS[:-1])} or {RUNNERS[-1]}."),
    _json,
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUNNER OPTIONS]")
@click.pass_context
def submit(context: click.Context, /, to: str, **given: Any) -> None:
    """Run a job on a Ray cluster, or on a runner of Apache Beam.

    To Ray travel this thresher, the job file and what --with names; the job runs there, and `thresher jobs`
    asks after it. For Beam the job is driven from here, and what comes after -- goes to the runner.

    \b
    Examples:
      thresher submit job.yaml --to http://head:8265 --with hq.bin --wait
      thresher submit job.yaml --to beam --runner FlinkRunner -- --flink_master=jobs:8081
    """
    if to == BEAM:
        _submit_to_beam(context, **given)
    else:
        _submit_to_ray(context, to, **given)


def _submit_to_beam(context: click.Context, **given: Any) -> None:
    _refuse_of_other(
        "--to beam", given, more="--with", environment="--env", wait="--wait", token_file="--token-file",
        headers="--header",
    )  # fmt: skip
    if not given["runner"]:
        raise click.UsageError(f"--to beam takes a runner: --runner {', '.join(RUNNERS)}")
    runner = json.dumps(given["runner"])
    options = json.dumps(list(given["options"]))
    ours = ("run.engine=beam", f"run.beam.runner={runner}", f"run.beam.options={options}")
    run = context.find_root().command.get_command(context, "run")  # type: ignore[attr-defined]
    context.invoke(
        run,
        job=str(given["job"]),
        limit=given["limit"],
        overrides=(*ours, *given["overrides"]),
        as_json=given["as_json"],
        allow_code=given["allow_code"],
    )


def _submit_to_ray(context: click.Context, to: str, **given: Any) -> None:
    _refuse_of_other(f"--to {to}", given, runner="--runner", options="what comes after --")
    from .submit import Submission, submit

    submission = Submission(
        job=given["job"],
        more=given["more"],
        overrides=given["overrides"],
        limit=given["limit"],
        allow_code=given["allow_code"],
        environment=_pairs("--env", given["environment"]),
        python=given["python"],
    )
    if not given["job"].is_file():
        raise click.UsageError(f"{given['job']}: no such job file")
    with _told():
        cluster = _open(to, given["token_file"], given["headers"])
        job, shared = submit(submission, cluster)
    if shared:
        click.echo(
            "all machines of the cluster must find these at the same place: " + ", ".join(shared), err=True
        )
    if given["as_json"]:
        click.echo(json.dumps({"job": job, "to": cluster.address}))
    else:
        click.echo(f"submitted {job} to {cluster.address}")
    if given["wait"]:
        _follow(context, cluster, job)
    elif not given["as_json"]:
        for line in ("status", "logs --follow", "stop"):
            name, *option = line.split()
            click.echo("  " + " ".join(["thresher jobs", name, job, "--to", cluster.address, *option]))


@click.group()
def jobs() -> None:
    """Ask after jobs that were submitted to a Ray cluster, by their ids.

    `thresher status` tells of the run itself, by its job file or output.

    \b
    Example:
      thresher jobs logs raysubmit_4LamXRuQpYdSMg7J --to http://head:8265 --follow
    """


@jobs.command("status")
@click.argument("job", metavar="[ID]", required=False)
@_options(_to, *_access, _json)
def jobs_status(
    job: str | None, to: str, token_file: Path | None, headers: tuple[str, ...], as_json: bool
) -> None:
    """Say whether a job runs, and how it ended; without an ID, of every job of the cluster."""
    from .cluster_jobs import told

    with _told():
        cluster = _open(to, token_file, headers)
        found = [cluster.status(job)] if job else cluster.jobs()
    if as_json:
        click.echo(json.dumps(found[0] if job else found, indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(map(told, found)) or "no job was submitted to this cluster")


@jobs.command("logs")
@click.argument("job", metavar="ID")
@click.option("--follow", is_flag=True, help="Go on until the job ends, and end with its exit status.")
@_options(_to, *_access)
@click.pass_context
def jobs_logs(
    context: click.Context, job: str, follow: bool, to: str, token_file: Path | None, headers: tuple[str, ...]
) -> None:
    """Print what a job printed."""
    with _told():
        cluster = _open(to, token_file, headers)
        if not follow:
            click.echo(cluster.log(job), nl=False)
    if follow:
        _follow(context, cluster, job)


@jobs.command("stop")
@click.argument("job", metavar="ID")
@_options(_to, *_access)
def jobs_stop(job: str, to: str, token_file: Path | None, headers: tuple[str, ...]) -> None:
    """Interrupt a job. Submitted again, it goes on from there."""
    with _told():
        cluster = _open(to, token_file, headers)
        runs = cluster.stop(job)
    click.echo(f"{job} was told to stop" if runs else f"{job} does not run; nothing was stopped")


def _follow(context: click.Context, cluster: Cluster, job: str) -> NoReturn:
    from .cluster_jobs import STOPPED, exit_status, told

    try:
        with _told():
            status = cluster.follow(job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        click.echo(f"\n{job} goes on; thresher jobs stop {job} --to {cluster.address} ends it", err=True)
        context.exit(STOPPED)
    click.echo(told(status), err=True)
    context.exit(exit_status(status))


def _open(to: str, token_file: Path | None, headers: tuple[str, ...]) -> Cluster:
    from .cluster_jobs import Address, Cluster

    address = Address.of(to)
    if address.note:
        click.echo(address.note, err=True)
    return Cluster(address, _pairs("--header", headers), token_file)


def _pairs(option: str, given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.strip():
            # Without what was given, which may be a secret.
            raise click.UsageError(f"{option} takes NAME=VALUE")
        pairs[name.strip()] = value
    return pairs


def _refuse_of_other(to: str, given: dict[str, Any], **options: str) -> None:
    for name, option in options.items():
        if given[name]:
            raise click.UsageError(f"{option} does not go with {to}")


class _Refused(click.ClickException):
    exit_code = 2


@contextmanager
def _told() -> Iterator[None]:
    from .cluster_jobs import ClusterError
    from .submit_bundle import BundleError
    from .submit_wheel import WheelError

    try:
        yield
    except (ClusterError, BundleError, WheelError) as error:
        raise _Refused(str(error)) from None
