"""The door: the command line, nothing but parsing and calling.

Commands return their exit code. What a command needs is imported when it runs: torch takes two seconds, `--help` none.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hcs_daemon.errors import HcsError

_UsageError: Any = typer.BadParameter.__mro__[1]
"""The library names it in public only as the base of this one."""

app = typer.Typer(
    name="hcs-daemon",
    help="Checks, analyses and explains what a screening microscope writes, as it writes it.",
    epilog="Example: hcs-daemon demo",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
model = typer.Typer(help="Look at a model package, or check it.", epilog="Example: hcs-daemon model show demo")
ledger = typer.Typer(help="Check that no result was changed.", epilog="Example: hcs-daemon ledger verify /data/results")
app.add_typer(model, name="model")
app.add_typer(ledger, name="ledger")

Config = Annotated[Path, typer.Option("-c", "--config", metavar="FILE", help="The settings, a TOML file.")]
MaybeConfig = Annotated[
    Path | None, typer.Option("-c", "--config", metavar="FILE", help="The settings; without, nothing is expected.")
]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON instead of words.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Another number, other cells, noise and positions.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An expected failure is one line what is wrong and one line what to do."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what a console cannot show
    try:
        code = app(arguments, prog_name="hcs-daemon", standalone_mode=False)
        sys.stdout.flush()
    except HcsError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "hcs-daemon"
        return _fail(error.format_message(), f"{command} --help shows how it is used, with an example", 2)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our words has enough
        sys.stdout = None  # the interpreter would flush it once more
        return 1
    return int(code or 0)


def _fail(what: str, hint: str, code: int) -> int:
    sys.stderr.write(f"{what}\n{hint}\n")
    return code


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (the library calls it so)
    if wanted:
        from hcs_daemon import __version__

        typer.echo(f"hcs-daemon {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Checks, analyses and explains what a screening microscope writes, as it writes it."""


@app.command(epilog="Example: hcs-daemon run -c config.toml")
def run(config: Config) -> int:
    """Watch a folder and analyse what arrives, until SIGTERM or Ctrl+C."""
    from hcs_daemon.commands.run import run_service

    return run_service(config)


@app.command(epilog="Example: hcs-daemon process /data/incoming/PLATE1 -c config.toml --results /tmp/again")
def process(
    plates: Annotated[list[Path], typer.Argument(metavar="PLATE...", help="Plates' folders, or trees of them.")],
    config: Config,
    results: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go, instead of results.directory.")
    ] = None,
) -> int:
    """Analyse folders that are complete already, then exit. 1: something was rejected or partial."""
    from hcs_daemon.commands.process import process_plates

    return process_plates(plates, config, results)


@app.command(epilog="Example: hcs-daemon check -c config.toml")
def check(config: Config) -> int:
    """Read the settings, load and test the model, try the folders; say what `run` would do."""
    from hcs_daemon.commands.check import check_settings

    return check_settings(config)


@app.command(epilog="Example: hcs-daemon validate /data/incoming/PLATE1")
def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, plates' folders, or trees of them.")],
    *,
    json: Json = False,
    config: MaybeConfig = None,
) -> int:
    """Say what images are: bit depth, channels, quality. No model. 1: something was rejected."""
    from hcs_daemon.commands.validate import validate_files

    return validate_files(paths, config, as_json=json)


@app.command(epilog="Example: hcs-daemon demo --directory /tmp/demo")
def demo(
    directory: Annotated[
        Path, typer.Option(metavar="DIR", help="Where it works; what an earlier demo left there is replaced.")
    ] = Path("hcs-demo"),
) -> int:
    """Tell the whole story on a simulated screen, in some three minutes."""
    import time

    from hcs_daemon.demo.story import run_demo

    return run_demo(directory, sleep=time.sleep)


@app.command(
    epilog="Example: hcs-daemon simulate /tmp/incoming --wells 24 --speed 2 --truth /tmp/truth.csv, or with another "
    "instrument's files: hcs-daemon simulate /tmp/incoming --instrument imagexpress --z-steps 5 --time-points 2"
)
def simulate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made, with its parents.")],
    plate: Annotated[str, typer.Option(metavar="NAME", help="The plate's name.")] = "SIM0001",
    wells: Annotated[int, typer.Option(metavar="6|24|96|384|1536", help="Wells of the plate.")] = 96,
    sites: Annotated[int, typer.Option(metavar="N", help="Sites a well.")] = 1,
    size: Annotated[int, typer.Option(metavar="PX", help="Edge of a picture, in pixels of 1.196 µm.")] = 540,
    seed: Seed = 0,
    speed: Annotated[
        float, typer.Option(metavar="X", help="0: as fast as possible; 1: five planes a second, files growing.")
    ] = 0.0,
    instrument: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Whose files to write: harmony, imagexpress, cellvoyager, incell, cytation, arrayscan, scanr or ome.",
        ),
    ] = "harmony",
    z_steps: Annotated[int, typer.Option(metavar="N", help="Planes a stack; the middle one is in focus.")] = 1,
    time_points: Annotated[int, typer.Option(metavar="N", help="How often the plate is imaged.")] = 1,
    scene: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Not the screen but a hard case beside DMSO: two_channels, rearranged, mixed_cells or bright_edge.",
        ),
    ] = None,
    layout: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Writes there what an experimenter knows of each well.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Writes there what was planted, with masks beside it.")
    ] = None,
) -> int:
    """Write a plate of made-up cells as an Opera Phenix or another machine would.

    Channels 1-5 are DNA, ER, RNA, AGP, Mito; incell, scanr and ome call them by these names. arrayscan has one z step
    and one time point.
    """
    from hcs_daemon.commands.simulate import simulate_screen

    return simulate_screen(
        directory,
        plate=plate,
        wells=wells,
        sites=sites,
        size_px=size,
        seed=seed,
        speed=speed,
        instrument=instrument,
        z_steps=z_steps,
        time_points=time_points,
        scene=scene,
        layout=layout,
        truth=truth,
    )


@app.command(epilog="Example: hcs-daemon replay /data/recorded/PLATE1 /tmp/incoming --speed 4 --rename 24")
def replay(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A recorded folder; only read.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Where to write; made, with its parents.")],
    speed: Annotated[
        float, typer.Option(metavar="X", help="0: as fast as possible; 1: five planes a second, files growing.")
    ] = 1.0,
    rename: Annotated[
        str | None,
        typer.Option(metavar="WELLS", help="B03,B04 or 24: spread the first well's planes over these wells."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Mixes the order; without, by name.")] = None,
) -> int:
    """Write a recorded folder again, as an instrument would."""
    from hcs_daemon.commands.simulate import replay_folder

    return replay_folder(source, destination, speed=speed, rename=rename, seed=seed)


@app.command(
    epilog="Example: hcs-daemon train -c config.toml --plate /data/incoming/PLATE1 --plate /data/incoming/PLATE2 "
    "--layout layouts --classes compound --output /data/models/mine"
)
def train(
    config: Config,
    plate: Annotated[
        list[Path], typer.Option(metavar="DIR", help="A plate's folder, or a tree of them; may be given again.")
    ],
    layout: Annotated[
        Path, typer.Option(metavar="CSV", help="What is in the wells; or a folder with one <plate>.csv a plate.")
    ],
    classes: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="Of the layout: role, compound (treatments teach nothing), or one of your own."
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="PACKAGE", help="The package's folder; what is there is replaced.")],
    *,
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="The control's class; without, that of the role control.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the split, the start and the views.")] = 0,
    steps: Annotated[int, typer.Option(min=20, metavar="N", help="Batches to learn from, at most.")] = 700,
) -> int:
    """Make a model package from labelled wells. Of [model] in the settings only hit_probability is read.

    Ended, it goes on where it was when it is given the same again.
    """
    from hcs_daemon.commands.train import train_package
    from hcs_daemon.training.making import Order

    return train_package(Order(tuple(plate), layout, classes, output, control, seed, steps), config)


@app.command(epilog="Example: hcs-daemon status -c config.toml")
def status(config: Config, *, json: Json = False) -> int:
    """Say what a running daemon is doing. 1: not ready; 6: nothing is running."""
    from hcs_daemon.commands.status import show_status

    return show_status(config, as_json=json)


@app.command(epilog="Example: hcs-daemon trace /data/results/PLATE1/1/wells/B03.json --site 2")
def trace(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A well's result: wells/B03.json, or a revision.")],
    *,
    site: Annotated[int | None, typer.Option(metavar="N", help="Only this site.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the watched folder is now, if moved; after `process PLATE` the plate's folder.",
        ),
    ] = None,
    package: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The model package, where it was moved since.")
    ] = None,
    json: Json = False,
) -> int:
    """Follow a result again, from the files' bytes to the verdict, beside what was recorded. 1: a step differs.

    3: the model package cannot be used or is another one; 4: a file cannot be read.
    """
    from hcs_daemon.commands.trace import trace_result

    return trace_result(result, site, root, package, as_json=json)


Package = Annotated[str, typer.Argument(metavar="PACKAGE", help='A package\'s folder, or "demo".')]


@model.command(epilog="Example: hcs-daemon model show demo")
def show(package: Package) -> int:
    """What a model package expects and says, and its card."""
    from hcs_daemon.commands.model import show_package

    return show_package(package)


@model.command(epilog="Example: hcs-daemon model verify demo")
def verify(package: Package) -> int:
    """Compare digest and shapes, run the self-test. 3: refused."""
    from hcs_daemon.commands.model import verify_package

    return verify_package(package)


@model.command(
    epilog="Example: hcs-daemon model export my_model:make_network --weights weights.safetensors "
    "--manifest manifest.json --references references.npz --output my-model"
)
def export(
    factory: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="Python that makes the network, called without arguments.")
    ],
    weights: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="All its weights, and no others.")],
    manifest: Annotated[Path, typer.Option(metavar="FILE", help="manifest.json, without digests.")],
    output: Annotated[
        Path, typer.Option(metavar="PACKAGE", help="The folder to make; an earlier package is replaced.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Raw sites by class, the control's at least; none without classes."),
    ] = None,
    card: Annotated[Path | None, typer.Option(metavar="FILE.md", help="What people should know of it.")] = None,
) -> int:
    """Make a model package from any torch module. 2: what was asked is refused; 3: the network is."""
    from hcs_daemon.commands.model import export_package

    return export_package(factory, weights=weights, manifest=manifest, output=output, references=references, card=card)


@ledger.command("verify", epilog="Example: hcs-daemon ledger verify /data/results")
def verify_results(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="The results folder.")],
) -> int:
    """Follow the hash chain, and compare every well revision with it. 1: not intact."""
    from hcs_daemon.commands.ledger import verify_folder

    return verify_folder(results)


if __name__ == "__main__":
    sys.exit(main())
