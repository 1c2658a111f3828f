"""The command line, msat-bench; only typer is imported here, so that `list` and errors answer at once."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from msat.errors import UserError


class _Group(TyperGroup):
    """Ends a user's mistake with one sentence and exit code 2, an interruption with 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            typer.echo(f"msat-bench: {error}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            typer.echo(
                "msat-bench: interrupted; what was measured is kept, the same command goes on from there.", err=True
            )
            raise typer.Exit(130) from error


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="A file with tasks or methods; may be repeated.")]
Results = Annotated[Path, typer.Option(help="Folder of records and tables.")]
DEFAULT_COSTS = "horowitz-45nm"
SAMPLE_CALIBRATION = 128
SAMPLE_LIMIT = 160
"""Calibration and test inputs of a quick look, so that all methods on one network take about a minute on two cores."""
DataFolder = Annotated[Path | None, typer.Option(envvar="MSAT_DATA", help="Folder of data sets.")]


@app.command("run")
def run_command(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="Tasks, separated by commas; all by default.")] = None,
    model: Annotated[str | None, typer.Option(help="Networks, or `all`; each task's first by default.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="E.g. 'msat,percentile q=99 nonzero=false'; all by default.")
    ] = None,
    profile: Annotated[str, typer.Option(help="`sample` (embedded data) or `full` (the paper's).")] = "sample",
    data: DataFolder = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    steps: Annotated[int | None, typer.Option(help="T; the network's default otherwise.")] = None,
    limit: Annotated[int | None, typer.Option(help="Simulate so many test inputs only (sample: 160).")] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions of stochastic methods.")] = 3,
    seed: Annotated[int, typer.Option(help="Base seed.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Train so long instead of the recipe's epochs.")] = None,
    calibration: Annotated[int | None, typer.Option(help="Calibration inputs (512; sample: 128).")] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="events (default on a CPU), folded (default on a GPU), folded-tf32x3 or step."),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores by default.")] = None,
    plugin: Plugins = None,
    results: Results = Path("results"),
) -> None:
    """Train or load the networks, convert them with every method, simulate, and write records and tables."""
    from benchmarks.cells import CALIBRATION, Options, as_profile
    from benchmarks.session import run

    source = context.get_parameter_source("data")  # MSAT_DATA in the environment is for whichever run reads it
    if profile == "sample" and source is not None and source.name == "COMMANDLINE":
        raise UserError("DATA= is read with PROFILE=full alone; add it, or leave DATA= away for the embedded sample.")
    default = SAMPLE_CALIBRATION if profile == "sample" else CALIBRATION
    options = Options(
        profile=as_profile(profile), data=data, device=device, backend=backend, steps=steps,
        limit=SAMPLE_LIMIT if limit is None and profile == "sample" else limit, epochs=epochs,
        calibration=default if calibration is None else calibration, seeds=seeds, base_seed=seed, results=results, plugins=_texts(plugin),
    )  # fmt: skip
    raise typer.Exit(run(options, task, model, methods, threads))


@app.command("report")
def report_command(
    results: Results = Path("results"),
    costs: Annotated[
        str, typer.Option(help="Table of msat/energy.toml that energies are counted with.")
    ] = DEFAULT_COSTS,
) -> None:
    """Rebuild all tables, plots, the leaderboard and index.html from the records."""
    from benchmarks.report import report_all

    report = report_all(results, costs)
    for file in report.broken:
        typer.echo(f"not a record of this version, left out: {file}", err=True)
    for file in report.written:
        typer.echo(str(file))
    if not report.written:
        raise UserError(f"there are no records in {results}; make some with `make bench`.")


@app.command("compare")
def compare_command(
    first: Annotated[str, typer.Argument(metavar="A", help="A method, a record, a results folder, or a commit.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same kind of thing.")],
    task: Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")] = None,
    model: Annotated[str | None, typer.Option(help="Only these networks.")] = None,
    profile: Annotated[str | None, typer.Option(help="Only `sample` or `full`.")] = None,
    results: Results = Path("results"),
) -> None:
    """Show two methods, records, result folders or commits (their committed records) side by side on the same test inputs."""
    from benchmarks.compare import compare

    typer.echo(compare(first, second, results, task, model, profile))


@app.command("list")
def list_command(plugin: Plugins = None) -> None:
    """List tasks and methods with their parameters."""
    from benchmarks.catalogue import read

    entries = read(plugin or [])
    width = max(len(entry.name) for entry in entries)
    for kind in ("task", "method"):
        typer.echo(f"{kind}s")
        for entry in entries:
            if entry.kind == kind:
                parameters = ", ".join(f"{name}={default}" for name, default in entry.parameters)
                typer.echo(f"  {entry.name:{width}}  {entry.title}" + (f"  [{parameters}]" if parameters else ""))


@app.command("verify")
def verify_command(
    record: Annotated[Path, typer.Argument(help="A record.")],
    data: DataFolder = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    plugin: Plugins = None,
) -> None:
    """Measure a record's cell again and compare the counts."""
    from benchmarks.verify import verify

    differences = verify(record, data, device, _texts(plugin))
    for line in differences or ["the same counts"]:
        typer.echo(line)
    raise typer.Exit(1 if differences else 0)


@app.command("check")
def check_command(
    plugin: Annotated[Path, typer.Argument(help="A plugin file.")],
) -> None:
    """Try a plugin's methods and tasks on tiny inputs."""
    from benchmarks.check import check

    faults = check(plugin, typer.echo)
    raise typer.Exit(1 if faults else 0)


@app.command("new")
def new_command(
    kind: Annotated[str, typer.Argument(help="What to begin: method or task.")],
    name: Annotated[str, typer.Argument(help="Its name, lower case with dashes.")],
    folder: Annotated[Path, typer.Option(help="Where to write the file.")] = Path(),
) -> None:
    """Write a commented plugin file to start from."""
    from benchmarks.new import write_template

    file = write_template(kind, name, folder)
    typer.echo(f"{file}\ntry it: {sys.argv[0]} check {file}")


def _texts(files: list[Path] | None) -> tuple[str, ...]:
    return tuple(str(file) for file in files or ())


def main() -> None:
    """Entry point of the console script."""
    app()
