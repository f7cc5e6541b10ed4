"""Commands on data sets: verify and prepare. The options of a source follow theirs, whatever they are."""

from pathlib import Path
from typing import Annotated

import typer

from kerazoo.cli.terminal import console_of, progress_bar

_WARNINGS = 10  # that a command prints


def verify(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A folder of images and masks; or siim, coco, …. Its options follow it."),
    ],
    report: Annotated[Path, typer.Option("--report", help="Where the findings go, as CSV or .json.")] = Path(
        "verify.csv"
    ),
    fix: Annotated[
        Path | None, typer.Option("--fix", metavar="FILE", help="Write the samples to leave out, for --exclude FILE.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="A split.csv, to find what is in two parts; or the split of voc.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="KIND", help="A kind not to report; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that read; 1 reads in threads.")] = 1,
) -> None:
    """Look at every image and mask of a data set. Exit status: 0 nothing found, 1 something, 2 it cannot be read."""
    from kerazoo import data
    from kerazoo.cli.source_options import source_options

    for path in (report, fix):
        if path is not None and not path.parent.is_dir():  # not after hours of looking
            raise FileNotFoundError(f"There is no directory {path.parent} to write {path.name} to.")
    make, options = source_options(*_named(source, context.args))
    console = console_of()
    with progress_bar(console, "verifying") as progress:
        found = data.verify(make, split=split, ignore=ignore or (), workers=workers, progress=progress, **options)
    console.print(str(found), highlight=False, soft_wrap=True, markup=False)
    found.save(report)
    console.print(f"report: {report}", highlight=False, soft_wrap=True, markup=False)
    if fix is not None:
        found.save_exclusions(fix)
        console.print(
            f"{len(found.exclusions)} samples to leave out: {fix}", highlight=False, soft_wrap=True, markup=False
        )
    if not found.clean:
        raise typer.Exit(1)


def prepare(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="As for verify; its options follow.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the prepared data go.")],
    size: Annotated[
        str | None, typer.Option("--size", help="512, or HEIGHTxWIDTH; images keep their sizes if not given.")
    ] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Smaller files that take longer to read.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; one for each core if not given.")] = None,
) -> None:
    """Decode a data set once, to be read quickly: kerazoo prepare siim --images DIR --csv FILE --to DIR.

    Images without annotation, and the reverse, are left out and named; --missing error refuses them.
    """
    from kerazoo.cli.source_options import source_from_arguments
    from kerazoo.data import prepare as write

    images = source_from_arguments(*_named(source, context.args), missing="skip")
    console = console_of()
    with progress_bar(console, "preparing") as progress:
        made = write(images, to, image_size=_size(size), compress=compress, workers=workers, progress=progress)
    console.print(f"prepared: {to}. {made}", highlight=False, soft_wrap=True, markup=False)
    for warning in made.warnings[:_WARNINGS]:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True, markup=False)
    if len(made.warnings) > _WARNINGS:
        console.print(f"… and {len(made.warnings) - _WARNINGS} more warnings", highlight=False)


def _named(source: str, words: list[str]) -> tuple[str, list[str]]:
    """The name of a source and the words of its options; for a directory "folder", or "prepared" if it is that."""
    from kerazoo.data.shards import is_prepared
    from kerazoo.data.sources import SOURCES

    if source in SOURCES or not Path(source).is_dir():
        return source, words
    return "prepared" if is_prepared(source) else "folder", ["--root", source, *words]


def _size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of "512" or "384x512"."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ValueError(f"--size is a number of pixels or HEIGHTxWIDTH, as 512 or 384x512; received {text!r}.")
    return int(sides[0]), int(sides[-1])
