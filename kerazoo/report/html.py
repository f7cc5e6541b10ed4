"""The report of a run: one self-contained HTML file."""

import base64
import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["write"]

HEADLINE = {
    "iou": ("Foreground IoU", "over images with foreground", "higher"),
    "image_balanced_accuracy": ("Balanced accuracy", "of telling empty images from the others", "higher"),
    "empty_false_positive_pixels": ("False-positive pixels", "per empty image", "lower"),
}
WORST = 10

# The beginning of an absolute path, and not the slashes of a/b, 3 / 4 or https://
_PATH_START = (
    r"(?:file:/+|(?<![\w./\\~:…-])(?://?|\\\\|~[\w.-]*[/\\])|(?<=:)/(?!/)|(?<!\w)[A-Za-z]:[/\\](?!/))(?=[^\s/\\])"
)
_QUOTED_PATH = re.compile(rf"(?P<quote>['\"`])(?P<path>{_PATH_START}.*?)(?P=quote)(?!\w)")
_PATH = re.compile(rf"{_PATH_START}(?:.*[/\\])?([^\s/\\]+)")


class Value(NamedTuple):
    """A value with its confidence interval; `low` and `high` are None if none was computed."""

    value: float
    low: float | None = None
    high: float | None = None


def write(run_directory: str | Path) -> Path:
    """Write `report.html` of a run from the files in its directory.

    It reads `evaluation.json` (as `kerazoo.training.evaluate` returns it), `metrics.csv`, `recipe.yaml`, `split.csv`,
    `environment.json`, `audit.json`, `start.json`, `phases.json`, `rule.json` (of a tuned decision rule), `weak.json`
    (of `kerazoo.weak.evaluate`), and the PNG files in `plots/` and `gallery/`. A metric is a number, or a mapping of
    `value`, `low` and `high`.
    Whatever is missing is left out and named at the end of the page. An absolute path in any text is cut to its last
    part.

    Args:
        run_directory: Directory of a run.

    Returns: Path of the report.
    Raises: FileNotFoundError if `run_directory` is no directory or holds nothing of a run; ValueError if a file in it
        cannot be parsed.
    """
    import jinja2

    run = Path(run_directory)
    if not run.is_dir():
        raise FileNotFoundError(f"`run_directory` {str(run)!r} is no directory. `kerazoo train` makes one.")
    page = _collect(run)
    if not page["found"]:
        raise FileNotFoundError(
            f"`run_directory` {str(run)!r} holds no recipe.yaml, metrics.csv, evaluation.json or weak.json, so "
            "it is no run."
        )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(number=number, interval=interval, words=words)
    template = environment.from_string((Path(__file__).parent / "template.html.j2").read_text(encoding="utf-8"))
    report = run / "report.html"
    temporary = run / "report.html.part"
    temporary.write_text(template.render(page), encoding="utf-8")
    temporary.replace(report)
    return report


def _collect(run: Path) -> dict[str, Any]:
    """Context of the template."""
    import yaml

    missing = []

    def read(name: str, parse, why: str) -> Any:
        path = run / name
        if not path.is_file():
            missing.append(f"{name}: {why}")
            return None
        try:
            return parse(path.read_text(encoding="utf-8"))
        except (ValueError, yaml.YAMLError, csv.Error) as error:
            raise ValueError(
                f"{name} of the run {run.name!r} cannot be read: {error}. Write it anew or remove it."
            ) from error

    evaluation = read("evaluation.json", json.loads, "no evaluation yet; run `kerazoo evaluate`") or {}
    recipe = read("recipe.yaml", yaml.safe_load, "the resolved recipe")
    split = read("split.csv", lambda text: list(csv.DictReader(text.splitlines())), "which image is in which split")
    environment = read("environment.json", json.loads, "versions of the packages that trained it")
    audit = read("audit.json", json.loads, "the data in numbers, and what was noted about them") or {}
    rule = read("rule.json", json.loads, "no tuned decision rule; run `kerazoo evaluate --tune-rule`")
    start, plan, weak = (
        read(name, json.loads, "") if (run / name).is_file() else None
        for name in ("start.json", "phases.json", "weak.json")
    )
    splits = audit.pop("splits", None) or count_splits(split or ())

    metrics, trivial = as_values(evaluation.get("metrics")), as_values(evaluation.get("trivial"))
    predictors = evaluation.get("trivial_predictors") or (
        {"trivial predictor": evaluation["trivial"]} if trivial else {}
    )
    pictures = {folder: sorted((run / folder).glob("*.png")) for folder in ("plots", "gallery")}
    worst = [path for path in pictures["gallery"] if path.name.startswith("worst")]
    heat_maps = [path for path in pictures["gallery"] if weak and path.name == "heat_maps.png"]
    surface = [path for path in pictures["plots"] if path.name == "rule_surface.png"]
    if not (run / "plots" / "curves.png").is_file():
        missing.append("plots/curves.png: learning curves")
    if not worst:
        missing.append("gallery/worst.png: pictures of the worst cases")
    return {
        "found": bool(evaluation) or weak is not None or recipe is not None or (run / "metrics.csv").is_file(),
        "title": run.resolve().name,
        "split": evaluation.get("split"),
        "judged": _judged(evaluation, _finished_epochs(run / "metrics.csv", missing)),
        "images": len(evaluation.get("per_image") or ()),
        "headline": [_card(name, metrics, trivial) for name in HEADLINE if name in metrics],
        "metrics": metrics,
        "predictors": {name: as_values(values) for name, values in predictors.items()},
        "confidence": f"{100 * (evaluation.get('confidence') or 0.95):g} %",
        "has_interval": any(value.low is not None for value in metrics.values()),
        "worst": worst_cases(evaluation.get("per_image") or ()),
        "worst_pictures": [_picture(path) for path in worst],
        "gallery": [_picture(path) for path in pictures["gallery"] if path not in worst + heat_maps],
        "weak": weak,
        "weak_pictures": [_picture(path) for path in heat_maps],
        "plots": [_picture(path) for path in pictures["plots"] if path not in surface],
        "rule": rule,
        "rule_settings": _flat(rule["rule"]) if rule else [],
        "rule_pictures": [_picture(path) for path in surface] if rule else [],
        "audit": _flat(audit),
        "splits": splits,
        "start": _hide(start),
        "phases": (plan or {}).get("phases") or (),
        "recipe": None
        if recipe is None
        else yaml.safe_dump(_hide(recipe), sort_keys=False, allow_unicode=True, default_flow_style=None),
        "environment": _flat(environment) if isinstance(environment, Mapping) else None,
        "missing": missing,
    }


def as_values(metrics: Mapping[str, Any] | None) -> dict[str, Value]:
    """Metrics as `Value`, from numbers or from mappings of `value`, `low` and `high`; None is a value not defined."""
    values = {}
    for name, entry in (metrics or {}).items():
        value, low, high = entry, None, None
        if isinstance(entry, Mapping):
            value, low, high = (entry.get(key) for key in ("value", "low", "high"))
        values[name] = Value(math.nan if value is None else value, low, high)
    return values


def worst_cases(per_image: Iterable[Mapping[str, Any]], count: int = WORST) -> list[dict[str, Any]]:
    """Rows of `per_image` with the lowest Dice first; among equals those with most wrong pixels."""

    def quality(row: Mapping[str, Any]) -> tuple[float, float]:
        dice = row.get("dice")
        wrong = sum(row.get(key) or 0 for key in ("false_positives", "false_negatives"))
        return (1.0 if dice is None or math.isnan(dice) else dice, -wrong)

    return [dict(row) for row in sorted(per_image, key=quality)[:count]]


def count_splits(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """Number of images of each split in the rows of `split.csv`."""
    counts = Counter(row.get("split") or "?" for row in rows)
    return {name: {"images": count} for name, count in counts.items()}


def hide_paths(text: str) -> str:
    """Replace absolute paths, which may contain user names, by their last part.

    Where an unquoted path ends is unknown, because names of directories may contain spaces, so everything up to the
    last slash of the line is left out.
    """
    text = _QUOTED_PATH.sub(lambda found: f"{found['quote']}{_last_part(found['path'])}{found['quote']}", text)
    return "\n".join(
        _last_part(line) if re.match(_PATH_START, line) else _PATH.sub(r"…/\1", line) for line in text.split("\n")
    )


def _last_part(path: str) -> str:
    return "…/" + re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def number(value: float | None, like: float | None = None) -> str:
    """Number with about three significant digits, or a dash; with as many decimals as `like` gets, if that is given."""
    if value is None or math.isnan(value):
        return "–"
    size = abs(value if like is None else like)
    decimals = 0 if isinstance(value, int) or size >= 1000 else 3 if size < 10 else 1
    return f"{value:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def interval(value: Value) -> str:
    """The interval of a value, or a dash."""
    if value.low is None or value.high is None:
        return "–"
    return f"{number(value.low, value.value)} – {number(value.high, value.value)}"


def words(name: str) -> str:
    """Display name of a metric."""
    return HEADLINE[name][0] if name in HEADLINE else name.replace("_", " ")


def _card(name: str, metrics: Mapping[str, Value], trivial: Mapping[str, Value]) -> dict[str, Any]:
    title, explanation, better = HEADLINE[name]
    return {
        "title": title,
        "explanation": explanation,
        "better": better,
        "metric": metrics[name],
        "trivial": trivial.get(name),
        "scale": 1.0 if better == "higher" else None,
    }


def _judged(evaluation: Mapping[str, Any], epochs: int | None) -> str:
    """Which checkpoint the numbers are of, and by which rule: "best epoch, 7 of 12; pixel threshold 0.5"."""
    if not evaluation:
        return "" if epochs is None else f"{epochs} finished epoch{'' if epochs == 1 else 's'}"
    parts = []
    if checkpoint := evaluation.get("checkpoint"):
        epoch = evaluation.get("epoch")
        place = "" if epoch is None else f", {epoch}" if epochs is None else f", {epoch} of {epochs}"
        parts.append(f"{checkpoint} epoch{place}")
    if decision := evaluation.get("decision"):
        parts.append(decision)
    return "; ".join(parts)


def _finished_epochs(metrics_csv: Path, missing: list[str]) -> int | None:
    from kerazoo.report.plots import read_metrics

    if not metrics_csv.is_file():
        missing.append("metrics.csv: what was measured in each epoch")
        return None
    try:
        return len(read_metrics(metrics_csv)[0])
    except ValueError:
        missing.append("metrics.csv: no epoch was finished")
        return None


def _picture(path: Path) -> dict[str, str]:
    name = path.stem.replace("_", " ")
    return {"name": name, "source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")}


def _hide(value: Any) -> Any:
    """`hide_paths` for every text in a nested value."""
    if isinstance(value, Mapping):
        return {key: _hide(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_hide(entry) for entry in value]
    return hide_paths(value) if isinstance(value, str) else value


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Rows of a two-column table from a nested mapping."""
    rows: list[tuple[str, str]] = []
    for key, entry in value.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(entry, Mapping):
            rows += _flat(entry, f"{name}: ")
        elif isinstance(entry, list):
            rows.append((name, "\n".join(hide_paths(str(item)) for item in entry) or "none"))
        else:
            rows.append((name, number(entry) if isinstance(entry, float) else hide_paths(str(entry))))
    return rows
