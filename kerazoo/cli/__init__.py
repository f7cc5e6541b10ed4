"""The command line. Heavy packages are imported inside the commands, so that `kerazoo --help` is fast."""

import os
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kerazoo.cli.data import prepare, verify
from kerazoo.cli.terminal import Commands, console_of, progress_bar

app = typer.Typer(
    cls=Commands,
    name="kerazoo",
    help="Semantic segmentation by transfer learning: train, evaluate, predict, export.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Directory that `kerazoo train` wrote.")]
DataOption = Annotated[Path | None, typer.Option("--data", metavar="PATH", help="Directory of the data.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete what is there from an earlier time.")]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--threshold", help="Probability above which a pixel is foreground, instead of the rule of the run."),
]
CheckpointOption = Annotated[
    Literal["best", "last"] | None, typer.Option("--checkpoint", help="Which epoch; as the recipe says if not given.")
]


def main() -> None:
    """Entry point of the console script."""
    app()


@app.callback()
def _settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@app.command()
def demo(
    run: Annotated[Path, typer.Option("--run", help="Where results go; an earlier demo is replaced.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Train on invented X-rays and report: 91 s of CPU time, no data and no network needed."""
    _load_keras()
    from kerazoo.training import Recipe, train

    with as_file(files("kerazoo.training") / "synthetic_demo.yaml") as path:
        recipe = Recipe.load(path)
    train(recipe, run, overwrite=True, console=console_of())


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern of names, such as 'resnet*'.")] = "*",
    weights: Annotated[
        bool, typer.Option("--weights", help="List the pretrained weights of encoders instead.")
    ] = False,
) -> None:
    """List encoders, decoders and heads; any encoder goes with any decoder and any head."""
    if weights:
        console_of().print(_weights_table(pattern))
        return
    _load_keras()
    import kerazoo as kz

    parts = {kind: getattr(kz, kind).list(pattern) for kind in ("encoders", "decoders", "heads")}
    if not any(parts.values()):
        raise ValueError(f"No encoder, decoder or head matches {pattern!r}. `kerazoo models` lists all.")
    console = console_of()
    for kind, names in parts.items():
        if names:
            console.print(f"[bold]{kind}[/bold] ({len(names)})")
            console.print("  " + "  ".join(names), highlight=False)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; there are some in recipes/.")],
    data: DataOption = None,
    run: Annotated[Path | None, typer.Option("--run", help="Where results go; runs/NAME if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run after its last finished epoch.")] = False,
    overwrite: OverwriteOption = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field: training.epochs=2; may be repeated."),
    ] = None,
) -> None:
    """Train a recipe, evaluate the model on the test split, and write a report."""
    _load_keras()
    from kerazoo import training

    settings = training.Recipe.load(recipe, assignments or ())
    run = run or Path("runs") / settings.name
    training.train(settings, run, data, resume=resume, overwrite=overwrite, console=console_of())


@app.command()
def evaluate(
    run: RunArgument,
    data: DataOption = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Which images.")] = "test",
    threshold: ThresholdOption = None,
    checkpoint: CheckpointOption = None,
    surface: Annotated[
        bool | None,
        typer.Option("--surface/--no-surface", help="Compare borders too; as the recipe says if not given."),
    ] = None,
    tune_rule: Annotated[
        bool, typer.Option("--tune-rule", help="Tune thresholds and smallest area on val first; all commands use them.")
    ] = False,
    metric: Annotated[
        str | None, typer.Option("--metric", help="What --tune-rule tunes by; per_image_dice if not given.")
    ] = None,
) -> None:
    """Measure a run on one split, with intervals, beside predictors that do not look at the image."""
    _load_keras()
    from kerazoo import training

    options: dict[str, Any] = {"threshold": threshold, "checkpoint": checkpoint, "surface": surface}
    training.evaluate(run, split, data, **options, tune_rule=tune_rule, metric=metric, console=console_of())


@app.command()
def predict(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Directory with images.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where masks, overlays and predictions.csv go.")],
    threshold: ThresholdOption = None,
    checkpoint: CheckpointOption = None,
    tile: Annotated[
        int | None,
        typer.Option("--tile", help="Pixels of overlapping tiles: images keep their size instead of the recipe's."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option("--overlap", help="Pixels that tiles share; a quarter of a tile if not given.")
    ] = None,
    tta: Annotated[
        Literal["flip"] | None, typer.Option("--tta", help="Average over the image and its mirror image.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Note files that cannot be read in predictions.csv and go on.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a PNG mask and an overlay, at the image's own size, for every image of a folder."""
    _load_keras()
    from kerazoo.inference import predict_folder
    from kerazoo.training import rules
    from kerazoo.training.run import load_model, read_run

    recipe, _ = read_run(run)
    console = console_of()
    rule = rules.announce(rules.choose(run, recipe, checkpoint, threshold=threshold), console, tiled=tile is not None)
    with progress_bar(console, "predicting") as progress:
        rows = predict_folder(
            load_model(run, checkpoint),
            folder,
            to,
            image_size=recipe.data.image_size if tile is None else None,
            batch_size=recipe.training.batch_size,
            rule=rule,
            tile=tile,
            overlap=overlap,
            tta=tta,
            on_error="skip" if skip_unreadable else "raise",
            progress=progress,
            **_reader_options(recipe),
            overwrite=overwrite,
        )
    unreadable = sum("error" in row for row in rows)
    found = sum(row.get("foreground_pixels", 0) > 0 for row in rows)
    noted = f"; {unreadable} files could not be read, see predictions.csv" if unreadable else ""
    text = f"{len(rows) - unreadable} masks in {to}, {found} with foreground{noted}"
    console.print(text, highlight=False, soft_wrap=True)


@app.command()
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the model goes; a new directory.")],
    format: Annotated[Literal["saved_model"], typer.Option("--format", help="What to write.")] = "saved_model",
    input_dtype: Annotated[
        Literal["uint8", "uint16", "float32"], typer.Option("--input-dtype", help="Type of the images it will take.")
    ] = "uint8",
    checkpoint: CheckpointOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a run for use without kerazoo; what was written is loaded and compared with the model."""
    _load_keras()
    from kerazoo.export import saved_model
    from kerazoo.training import rules
    from kerazoo.training.run import load_model, read_run

    recipe, facts = read_run(run)
    names = facts["class_names"]
    written = saved_model(
        load_model(run, checkpoint),
        to,
        rule=rules.announce(rules.choose(run, recipe, checkpoint), console_of()),
        image_size=recipe.data.image_size,
        input_dtype=input_dtype,
        intensity_range=_reader_options(recipe).get("intensity_range"),
        class_names=["background", *names] if facts["num_classes"] == 1 else names,
        overwrite=overwrite,
    )
    console_of().print(f"exported: {written}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of evaluated runs.")],
) -> None:
    """Table of runs; runs that differ in seeds alone are one row, mean ± standard deviation, and are tested."""
    _load_keras()
    from kerazoo.training import experiments

    found = experiments.compare(runs)
    console_of().print(experiments.table(found))
    if (tests := experiments.differences(found)) is not None:
        console_of().print(tests)


@app.command()
def study(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="YAML file; there are some in benchmarks/studies/.")],
    data: DataOption = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where results and runs go; studies/NAME if not given.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Runs at the same time.")] = 1,
) -> None:
    """Train the arms of a study over seeds and compare them; started again it goes on."""
    _load_keras()
    from kerazoo import training

    settings = training.Study.load(study)
    to = to or Path("studies") / settings.name
    training.study(settings, to, data, processes=processes, console=console_of())


@app.command()
def report(run: RunArgument) -> None:
    """Write report.html of a run anew from the files in its directory."""
    from kerazoo.report import html

    console_of().print(f"report: {html.write(run)}", highlight=False, soft_wrap=True)


def _weights_table(pattern: str) -> Any:
    """Table of the pretrained weights whose encoder matches a pattern, or whose name does, such as "*.tv_in1k"."""
    from rich.table import Table

    from kerazoo.checkpoints import catalog, download

    records = catalog.records(pattern if "." in pattern else f"{pattern}.*")
    if not records:
        raise ValueError(f"No pretrained weights match {pattern!r}. `kerazoo models --weights` lists all.")
    table = Table(box=None, pad_edge=False)
    for heading in ("weights", "top-1 %", "licence", "default", "cached"):
        table.add_column(heading)
    for record in records:
        default = catalog.find(record.arch, catalog.IMAGENET) is record
        table.add_row(
            record.name,
            "" if record.top1 is None else f"{record.top1:.1f}",
            record.licence,
            "yes" if default else "",
            "yes" if download.place(record) else "",
        )
    return table


def _load_keras() -> None:
    """Import Keras, silencing what TensorFlow's C++ code writes to standard error before its log level can be set."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
    finally:
        os.dup2(before, 2)
        os.close(before)


def _reader_options(recipe: Any) -> dict[str, Any]:
    """Options of the recipe's source that say how to read images, for images outside of the source."""
    options = recipe.data.source.options
    return {name: options[name] for name in ("exif_orientation", "intensity_range") if name in options}


for _command in (verify, prepare):
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(_command)
