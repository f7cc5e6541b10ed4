"""Write the tables of parts into README.md and the pages of docs/: `make docs-tables`.

A table stands between `<!-- table: decoders -->` and `<!-- end of table -->`. What it says comes from the registries
and from the docstrings of the modules, so it cannot differ from the code; `tests/test_docs.py` says which is stale.
"""

import csv
import importlib
import inspect
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TABLE = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

PAPER = r"(?P<who>[A-Z]\w+[\w .]*?,? \d{4}),? (?P<url>https://[\w./-]+\w)"  # Lin et al., 2017, https://…


def render(page: str) -> str:
    """The text of a page with all its tables made anew."""
    return TABLE.sub(lambda match: match[1] + TABLES[match["name"]]() + match[3], page)


def parts(package: str) -> str:
    """Table of a registry: names, what the part's module says it is, paper. Variants of one family share a line."""
    registry = getattr(importlib.import_module(f"kerazoo.{package}"), package.upper())
    lines = []
    for module, names in itertools.groupby(registry, key=lambda name: _module(registry[name])):
        text = inspect.getdoc(sys.modules[module]) or ""
        paper = re.search(PAPER, text)
        what = _first_sentence(re.sub(rf" \({PAPER}\)", "", text))
        lines.append((_names(names), what, f"[{paper['who']}]({paper['url']})" if paper else ""))
    return _table(("name", "what it is", "reference"), lines)


def functions(module: str, registry: str) -> str:
    """Table of a registry of functions: name with what may be given by name, and what it does."""
    rows = []
    for name, function in getattr(importlib.import_module(module), registry).items():
        keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        rows.append((f"`{name}`", _names(keywords), _first_sentence(inspect.getdoc(function))))
    return _table(("name", "options", "what it does"), rows)


def commands() -> str:
    """Table of the command line: each command and the first line of its help."""
    from typer.main import get_command

    from kerazoo.cli import app

    group = get_command(app).commands  # type: ignore[attr-defined]
    rows = [(f"`kerazoo {name}`", _first_sentence(command.help)) for name, command in group.items()]
    return _table(("command", "what it does"), rows)


def recipe() -> str:
    """Table of the fields of a recipe: default and meaning, from the docstrings of its sections."""
    from kerazoo.training.recipe import Recipe

    return _table(("field", "default", "meaning"), _fields(Recipe))


def losses_on_empty_images() -> str:
    """Table of what each loss gives for an image without foreground."""
    import keras
    import numpy as np

    from kerazoo.losses import LOSSES

    keras.config.set_dtype_policy("float32")
    truth = np.zeros((1, 8, 8), "int32")
    rows = []
    for name, kind in LOSSES.items():
        policies = inspect.signature(kind).parameters.get("empty")
        for options in ({"empty": policy} for policy in get_args(policies.annotation)) if policies else ({},):
            loss = LOSSES.create(name, **options)
            weight = np.ones(1, "float32") if loss.needs_weight else None
            logits = (np.full((1, 8, 8, 1), logit, "float32") for logit in (-6, 0, 6))
            values = [float(loss(truth, x, sample_weight=weight)) for x in logits]
            text = "".join(f', {key}="{value}"' for key, value in options.items())
            rows.append((f"`{name}`{text}", *(f"{value:.4f}" for value in values)))
    return _table(("loss", "says nothing is there (p = 0.002)", "undecided (p = 0.5)", "says all is (p = 0.998)"), rows)


def weights() -> str:
    """Table of the catalog of pretrained weights: one line per file, the default of an encoder in bold."""
    from kerazoo.pretrained import catalog

    rows = []
    for record in catalog.records():
        default = catalog.find(record.arch, catalog.IMAGENET) is record
        size = "" if record.top1_size is None else f" at {record.top1_size}"
        rows.append(
            (
                f"**`{record.name}`**" if default else f"`{record.name}`",
                record.origin,
                ", then ".join(record.training_data),
                "" if record.top1 is None else f"{record.top1:.1f}{size}",
                record.licence,
            )
        )
    return _table(('weights (bold: what "imagenet" means)', "from", "trained on", "top-1 in %", "licence"), rows)


def encoder_support() -> str:
    """Table of what the tests measured on encoders, from docs/encoders.csv. Equal ones of a family share a line."""
    with (REPOSITORY / "docs" / "encoders.csv").open(newline="") as file:
        records = {(row["encoder"], row["backend"]): row for row in csv.DictReader(file)}
    answers = {
        encoder: _measured(row, records[encoder, "jax"], records[encoder, "torch"])
        for (encoder, backend), row in records.items()
        if backend == "tensorflow"
    }
    families = itertools.groupby(answers, key=lambda name: (_family(name), answers[name]))
    heads = ("encoders", "strides", "output strides", "any size", "1 and 4 channels", "`.keras`", "JAX", "PyTorch")
    return _table(heads, ((_names(names), *answer) for (_, answer), names in families))


def _family(name: str) -> str:
    return re.split(r"[\d_]", name)[0]


def _measured(row: dict[str, str], *others: dict[str, str]) -> tuple[str, ...]:
    """Cells of an encoder: what `row` has, and whether the other backends have the same."""
    measured = {key: row[key] for key in ("pyramid", "channels", "depth", "dilation", "reload")}
    holds = [row["pyramid"] != "no", row["channels"] == "1 4", row["reload"] == "yes"]
    holds += [other.items() >= measured.items() for other in others]
    lists = (row[key].replace("none", "–").replace(" ", ", ") for key in ("pyramid", "dilation"))
    return (*lists, *("yes" if answer else "**no**" for answer in holds))


def _fields(section: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Rows of a section of the recipe, and of the sections inside it."""
    from kerazoo.training.recipe import Part

    described = _arguments(section)
    for name, field in section.model_fields.items():
        kinds: list[Any] = [kind for kind in (field.annotation, *get_args(field.annotation)) if inspect.isclass(kind)]
        inner = [kind for kind in kinds if getattr(kind, "model_fields", {}).keys() - Part.model_fields.keys()]
        if not inner or field.default is None:
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
            yield f"`{prefix}{name}`", default, described.get(name) or _first_sentence(inspect.getdoc(section))
        if inner:
            yield from _fields(inner[0], f"{prefix}{name}.")


def _arguments(documented: object) -> dict[str, str]:
    """What the Args section of a docstring says about each name."""
    _, _, section = (inspect.getdoc(documented) or "").partition("Args:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".").replace("|", "\\|") for name, text in found}


def _module(part: object) -> str:
    """Name of the module that describes a part, which is a class, a function, or an instance of a class."""
    return (part if inspect.isclass(part) or inspect.isfunction(part) else type(part)).__module__


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first_sentence(text: str | None) -> str:
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", paragraph)[0].replace("|", "\\|")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


TABLES = {
    **{
        package: lambda package=package: parts(package)
        for package in ("encoders", "decoders", "heads", "losses", "metrics", "optimizers")
    },
    "sources": lambda: functions("kerazoo.data.sources", "SOURCES"),
    "augmentations": lambda: functions("kerazoo.data.augment", "AUGMENTATIONS"),
    "commands": commands,
    "recipe": recipe,
    "losses_on_empty_images": losses_on_empty_images,
    "encoder_support": encoder_support,
    "weights": weights,
}

if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text()
        after = render(before)
        if after != before:
            path.write_text(after)
            print(f"rewrote the tables of {path.relative_to(REPOSITORY)}")
