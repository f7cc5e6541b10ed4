"""Write the generated tables into the pages of docs/: `make docs-tables`.

A table stands between `<!-- table: decoders -->` and `<!-- end of table -->`. What it says comes from the registries
and from the docstrings of the modules, so it cannot differ from the code; `tests/test_docs.py` says which is stale.
"""

import csv
import importlib
import inspect
import itertools
import json
import math
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


def study() -> str:
    """Table of the fields of a study."""
    from kerazoo.training.study import Study

    return _table(("field", "default", "meaning"), _fields(Study))


def losses_at_one_percent() -> str:
    """Table of each loss for a mean prediction of 0.01 on an empty image, from the records of tests and benchmarks."""
    steps = {"none": "nowhere", "down": "down", "up": "up", "both": "up and down"}
    rows = []
    for library, name, cells in _empty_images("loss"):
        row = cells["empty", "p = 0.01"]
        norm = float(row["gradient_norm"])
        step = steps[row["gradient_direction"]]
        rows.append((library, f"`{name}`", f"{float(row['value']):.3g}", f"{norm:.1e}" if norm else "0", step))
    return _table(("library", "loss", "value", "gradient norm", "a step moves p"), rows)


def losses_on(truth: str) -> str:
    """Table of each loss for one image, from the records of tests and benchmarks."""
    return _on(truth, "loss")


def metrics_on(truth: str) -> str:
    """Table of each metric for one image, from the records of tests and benchmarks."""
    return _on(truth, "metric")


def _on(truth: str, kind: str) -> str:
    """Table of one image; rows of one part that do not differ share a line."""
    measured = list(_empty_images(kind))
    predictions = [prediction for there, prediction in measured[0][2] if there == truth]
    plain = {name: cells for _, name, cells in measured}.get("cross_entropy", {})
    lines: dict[tuple[str, ...], list[str]] = {}
    for library, name, cells in measured:
        row = [_cell(cells[truth, prediction], plain.get((truth, prediction))) for prediction in predictions]
        if truth == "empty":
            row.append(" → ".join(_figure(cells[key]["value"]) for key in cells if key[0] == "object; empty"))
        lines.setdefault((library, name.partition("(")[0], *row), []).append(name)
    heads = ("library", kind, *predictions, *(["beside an object: nothing → 64 px"] if truth == "empty" else []))
    return _table(heads, ((key[0], _variants(names), *key[2:]) for key, names in lines.items()))


def _variants(names: list[str]) -> str:
    """The first name, and what is in the brackets of the others."""
    first, *others = names
    return ", ".join([f"`{first}`", *(f"`{name[name.index('(') :]}`" for name in others)])


def _cell(row: dict[str, str], plain: dict[str, str] | None) -> str:
    """A value, and for an undecided prediction where the gradient points; in brackets if that is next to nothing."""
    if plain is None or not row["prediction"].startswith("p ="):
        return _figure(row["value"])
    arrow = {"none": "·", "down": "↓", "up": "↑", "both": "↕"}[row["gradient_direction"]]
    faint = 0 < float(row["gradient_norm"]) < 1e-3 * float(plain["gradient_norm"])
    return f"{_figure(row['value'])} {f'({arrow})' if faint else arrow}"


def _figure(text: str) -> str:
    if text == "error":
        return text
    value = float(text)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞"
    return "0" if abs(value) < 5e-5 else f"{value:.3g}" if abs(value) < 0.99 else f"{value:.6g}"[:6].rstrip(".")


def _empty_images(kind: str) -> Iterator[tuple[str, str, dict[tuple[str, str], dict[str, str]]]]:
    """Library, name and rows by truth and prediction of every loss or metric: ours, then those of others."""
    for file in ("empty_images.csv", "empty_images_peers.csv"):
        rows = [row for row in _read(file) if row["kind"] == kind]
        for (library, name), group in itertools.groupby(rows, lambda row: (row.get("library", "kerazoo"), row["name"])):
            yield library, name, {(row["truth"], row["prediction"]): row for row in group}


def peers_of_empty_images() -> str:
    """Table of the libraries whose losses and metrics were measured on empty images."""
    seen = {row["library"]: (row["library"], row["version"], row["date"]) for row in _read("empty_images_peers.csv")}
    return _table(("library", "version", "measured on"), seen.values())


def _read(file: str) -> list[dict[str, str]]:
    with (REPOSITORY / "docs" / file).open(newline="") as content:
        return list(csv.DictReader(content))


def weights() -> str:
    """Table of the catalog of pretrained weights: one line per file, the default of an encoder in bold."""
    from kerazoo.checkpoints import catalog

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


def weak_study(data: str, split: str) -> str:
    """Table of `benchmarks/weak_study.py`: scores over seeds, by threshold and way to train."""
    from kerazoo.training.experiments import Spread

    arms = weak_runs(data)
    rows = []
    for rule, words in WEAK_RULES.items():
        for arm, runs in arms.items():
            scores = [str(Spread.of(runs[f"{split}_{rule}_{score}"])) for score in WEAK_SCORES]
            rows.append((words, arm, str(len(runs["seed"])), *scores))
    return _table(("threshold", "trained by", "seeds", *WEAK_SCORES.values()), rows)


def weak_study_tests(data: str) -> str:
    """Table of tests on the test split of `benchmarks/weak_study.py`: each way to train against CAM-β."""
    from kerazoo.training.experiments import difference

    (_, first), *others = weak_runs(data).items()
    rows = []
    for rule, score in [("image_labels", score) for score in WEAK_SCORES] + [("half", "mcc"), ("masks", "mcc")]:
        found = [difference(first[name], runs[name]) for _, runs in others for name in [f"test_{rule}_{score}"]]
        ps = [f"{one.medians:.2g} / {'–' if one.means is None else format(one.means, '.2g')}" for one in found]
        rows.append((WEAK_RULES[rule], WEAK_SCORES[score], *ps))
    return _table(("threshold", "score", *(arm for arm, _ in others)), rows)


WEAK_ARMS = {
    "cam_beta": "CAM-β",
    "cam_beta_unsmoothed": "CAM-β, no smoothing",
    "cam_alpha": "CAM-α",
    "supervised": "masks",
}
WEAK_RULES = {
    "image_labels": "by image labels",
    "half": "0.5",
    "maximum": "half of the maximum",
    "masks": "**by masks**",
}
WEAK_SCORES = {"mcc": "MCC", "iou": "IoU", "precision": "precision", "recall": "recall", "cls_mcc": "`cls_` MCC"}


def weak_runs(data: str) -> dict[str, dict[str, list[float]]]:
    """Numbers by name, one per seed, by way to train; of the seeds that every way has finished."""
    rows = _read(f"../benchmarks/results/weak_study_{data}.csv")
    seeds = set.intersection(*({row["seed"] for row in rows if row["arm"] == arm} for arm in WEAK_ARMS))
    numbers = [name for name in rows[0] if name == "seed" or name.startswith(("val_", "test_"))]
    return {
        words: {
            name: [float(row[name]) for row in rows if row["arm"] == arm and row["seed"] in seeds] for name in numbers
        }
        for arm, words in WEAK_ARMS.items()
    }


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


def decoder_support() -> str:
    """Table of what decoders read, and of the encoders that the tests found them to work with: docs/decoders.csv."""
    cells: dict[str, dict[str, set[str]]] = {}
    for row in _read("decoders.csv"):
        checks = itertools.islice(row.values(), len(("decoder", "encoder", "backend", "keras", "date")), None)
        cells.setdefault(row["decoder"], {}).setdefault(row["encoder"], set()).update(checks)
    encoders = next(iter(cells.values()))
    rows = []
    for name, measured in cells.items():
        answers = ("–" if x == {"refused"} else "yes" if x <= {"yes", "none"} else "**no**" for x in measured.values())
        rows.append((f"`{name}`", *_wants(name), *answers))
    return _table(("decoder", "output stride", "reads", *encoders), rows)


def _wants(decoder: str) -> tuple[str, str]:
    """The output stride that a decoder asks for, and the strides that it reads of an encoder with strides from 2 on."""
    import keras

    from kerazoo import testing
    from kerazoo.decoders import DECODERS
    from kerazoo.sub_models import SubModel
    from kerazoo.types import Level

    part = DECODERS.create(decoder, **testing.TINY.get(("decoder", decoder), {}))
    strides = [min(stride, part.output_stride) for stride in (2, 4, 8, 16, 32)]
    features = tuple(Level(stride, keras.KerasTensor((None, None, None, 8))) for stride in strides)
    switches = {stride: keras.KerasTensor((None, None, None, 8), "int32") for stride in strides[1:]}
    model = SubModel.wire("decoder", part, features, switches if part.switches else None)
    read = [stride for stride, reads in zip(strides, model.reads(), strict=False) if reads]
    return str(part.output_stride), ", ".join(map(str, read))


def _family(name: str) -> str:
    return re.split(r"[\d_]", name)[0]


def _measured(row: dict[str, str], *others: dict[str, str]) -> tuple[str, ...]:
    """Cells of an encoder: what `row` has, and whether the other backends have the same."""
    measured = {key: row[key] for key in ("pyramid", "channels", "depth", "dilation", "reload")}
    holds = [row["pyramid"] != "no", row["channels"] == "1 4", row["reload"] == "yes"]
    holds += [other.items() >= measured.items() for other in others]
    lists = (row[key].replace("none", "–").replace(" ", ", ") for key in ("pyramid", "dilation"))
    return (*lists, *("yes" if answer else "**no**" for answer in holds))


def decoder_cost(library: str) -> str:
    """Table of benchmarks/results/decoders.csv: our decoders alone, or with `library` each beside that one's."""
    with (REPOSITORY / "benchmarks" / "results" / "decoders.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    theirs = {row["decoder"]: row for row in records if row["library"] == "smp"}
    rows = []
    for row in records:
        other = theirs.get(row["decoder"])
        if row["library"] != "kerazoo" or (other is not None) != (library == "smp"):
            continue
        keys = ["gflops", "decoder_parameters_m", "inference_ms", "inference_mib"]
        keys += ["training_ms", "training_mib"] if other else []
        cells = [f"{row[key]} / {other[key]}" if other else row[key] for key in keys]
        rows.append((f"`{row['decoder']}`", *([] if other else [row["encoder"]]), *cells))
    heads = ["GFLOPs", "decoder, M parameters", "inference, ms", "inference, MiB"]
    if library == "smp":
        return _table(("ours / smp's", *heads, "training step, ms", "training, MiB"), rows)
    return _table(("decoder", "encoder", *heads), rows)


def _fields(section: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Rows of a section of the recipe, and of the sections inside it."""
    from kerazoo.training.recipe import Part

    described = _arguments(section)
    for name, field in section.model_fields.items():
        kinds: list[Any] = [kind for kind in (field.annotation, *get_args(field.annotation)) if inspect.isclass(kind)]
        inner = [kind for kind in kinds if getattr(kind, "model_fields", {}).keys() - Part.model_fields.keys()]
        if not inner or field.default in (None, ()):
            value = json.dumps(field.get_default(call_default_factory=True), default=str)
            default = "required" if field.is_required() else f"`{value}`"
            yield f"`{prefix}{name}`", default, described.get(name) or _first_sentence(inspect.getdoc(section))
        if inner:
            index = "0." if field.default == () else ""  # of a list, as an override writes it
            yield from _fields(inner[0], f"{prefix}{name}.{index}")


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
    "augmentations": lambda: functions("kerazoo.data.batches.augment", "AUGMENTATIONS"),
    "commands": commands,
    "recipe": recipe,
    "study": study,
    "losses_at_one_percent": losses_at_one_percent,
    "losses_on_empty_images": lambda: losses_on("empty"),
    "losses_on_objects": lambda: losses_on("object"),
    "metrics_on_empty_images": lambda: metrics_on("empty"),
    "metrics_on_objects": lambda: metrics_on("object"),
    "peers_of_empty_images": peers_of_empty_images,
    "encoder_support": encoder_support,
    "decoder_support": decoder_support,
    "decoder_cost": lambda: decoder_cost("kerazoo"),
    "decoder_cost_beside_smp": lambda: decoder_cost("smp"),
    "weights": weights,
    **{
        f"weak_study_{data}_{split}": lambda data=data, split=split: weak_study(data, split)
        for data in ("synthetic", "magnetic_tile")
        for split in ("val", "test")
    },
    **{f"weak_study_{data}_tests": lambda data=data: weak_study_tests(data) for data in ("synthetic", "magnetic_tile")},
}

if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text()
        after = render(before)
        if after != before:
            path.write_text(after)
            print(f"rewrote the tables of {path.relative_to(REPOSITORY)}")
