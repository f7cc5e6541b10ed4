"""Shared by all commands: one-line errors, the console, a progress bar."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

_EXPECTED = (ValueError, OSError, FloatingPointError, ModuleNotFoundError, RuntimeError)


class Commands(TyperGroup):
    """Command group that prints errors a user can fix as one sentence and exits with code 2."""

    def invoke(self, ctx: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # names of files need not be text
        try:
            return super().invoke(ctx)
        except typer.Exit:  # a RuntimeError, with the exit code that the command chose
            raise
        except _EXPECTED as error:
            if ctx.params.get("debug"):
                raise
            typer.secho(f"kerazoo: {error}", err=True, fg=typer.colors.RED)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            advice = {
                "train": "; the same command with --resume continues",
                "prepare": "; the same command continues",
                "study": "; the same command continues",
            }.get(ctx.invoked_subcommand, "")
            typer.secho(f"kerazoo: interrupted{advice}.", err=True)
            raise typer.Exit(130) from error


@contextmanager
def progress_bar(console: Any, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A callback `(done, total)` that draws a bar; None where there is no terminal."""
    if not console.is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def console_of() -> Any:
    """Console of a command; a new one each time, so that tests can capture its output."""
    from rich.console import Console

    return Console()
