"""The pages tell the truth: tables are fresh, code blocks run, commands, links, targets and dependencies exist."""

import importlib.util
import inspect
import re
import shlex
import tomllib

import numpy as np
import pytest
from PIL import Image
from support.source_tree import REPOSITORY
from support.tiers import thorough

import kerazoo
from kerazoo.data.sources import SOURCES

spec = importlib.util.spec_from_file_location("docs_tables", REPOSITORY / "docs" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)

PAGES = [*tables.PAGES, REPOSITORY / "CONTRIBUTING.md"]
TEXTS = {path.relative_to(REPOSITORY).as_posix(): path.read_text() for path in PAGES}
README = TEXTS["README.md"]
# Figures of the quick start that a test cannot afford, and what it runs instead.
SMALLER = {
    '"efficientnet_lite0"': '"resnet18"',
    ' weights="imagenet",': "",
    "(256, 256)": "(32, 32)",
    "batch_size=16": "batch_size=4",
    "epochs=20": "epochs=1",
}


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of one language ("" for none)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def commands(name: str) -> list[list[str]]:
    """Every line of a page's shell blocks that calls `name`, as words without comments."""
    lines = "\n".join(block for text in TEXTS.values() for block in blocks(text, "")).splitlines()
    words = [shlex.split(line, comments=True) for line in lines if re.match(rf"(\w+=\S+ )*{name}\b", line)]
    return [line[[name in word for word in line].index(True) :] for line in words]


def options_of(source: str) -> set[str]:
    """What `kerazoo verify` and `kerazoo prepare` take besides for a source."""
    return {"--images"} | {f"--{name.replace('_', '-')}" for name in inspect.signature(SOURCES[source]).parameters}


@pytest.fixture
def tiles(tmp_path):
    """24 gray images of three sizes with anti-aliased masks beside them, every second one empty."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(24):
        height, width = (33, 40, 57)[index % 3], 41
        image = rng.integers(90, 110, (height, width), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        if index % 2:
            mask[8:20, 9:24], mask[10:18, 11:22] = 100, 255
            image[10:18, 11:22] += 80
        Image.fromarray(image).save(folder / f"{index}.jpg")
        Image.fromarray(mask).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("page", [name for name, text in TEXTS.items() if tables.TABLE.search(text)])
def test_tables_are_fresh(page):
    before, after = TEXTS[page].splitlines(), tables.render(TEXTS[page]).splitlines()
    stale = sorted(set(before) ^ set(after))
    assert before == after, f"stale lines in {page}, type `make docs-tables`:\n" + "\n".join(stale)


def test_a_stale_table_is_noticed():
    page = "<!-- table: decoders -->\n| old |\n<!-- end of table -->\n"
    assert "| `unet` |" in tables.render(page)
    assert "| old |" not in tables.render(page)


@thorough
def test_quick_start_runs_as_typed(monkeypatch, tiles):
    """The first block of the README, with smaller numbers, on a folder of images as the README describes it."""
    code, *others = blocks(README, "python")
    assert others == []
    for figure, smaller in SMALLER.items():
        assert figure in code
        code = code.replace(figure, smaller)
    monkeypatch.chdir(tiles.parent)
    scope = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert len(scope["train"]) + len(scope["val"]) + len(scope["test"]) == len(scope["source"])
    assert {"iou", "val_iou"} <= scope["model"].history.history.keys()


@thorough
@pytest.mark.parametrize("page", [name for name in TEXTS if name != "README.md" and blocks(TEXTS[name], "python")])
def test_code_of_the_pages_runs(page, tmp_path, monkeypatch):
    """All Python blocks of a page, one after the other."""
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks(TEXTS[page], "python")), page, "exec"), {})


def test_recipes_of_the_pages_are_valid():
    """Those that show some sections have the others of the first; what has arms is a study."""
    from kerazoo.training import Recipe, Study
    from kerazoo.training.overrides import read_yaml

    shown = [read_yaml(block) for text in TEXTS.values() for block in blocks(text, "yaml")]
    first, *others = [content for content in shown if "arms" not in content]
    for content in (first, *others):
        Recipe.parse({**first, **content})
    assert others
    assert [Study.model_validate(content) for content in shown if "arms" in content]


def test_commands_of_the_pages_exist():
    from typer.main import get_command

    from kerazoo.cli import app

    known = get_command(app).commands
    lines = commands("kerazoo")
    assert lines
    for _, command, *words in lines:
        assert command in known, f"no such command: kerazoo {command}"
        options = {option for parameter in known[command].params for option in parameter.opts}
        if command in ("verify", "prepare"):
            options |= options_of(words[0] if words[0] in SOURCES else "folder")
        assert {word for word in words if word.startswith("-")} <= options, f"kerazoo {command} {words}"


def test_make_targets_of_the_pages_exist():
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {
        match for text in TEXTS.values() for match in re.findall(r"(?:`|^|then `)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_paths_exist(page):
    folder = (REPOSITORY / page).parent
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXTS[page])
    assert [link for link in links if not (folder / link).exists()] == []
    paths = re.findall(r"`((?:kerazoo|tests|docs|benchmarks|notebooks|recipes)/[\w./-]+)`", TEXTS[page])
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_dependencies_of_the_page_are_those_of_pyproject():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    table, _, rest = TEXTS["docs/dependencies.md"].partition("Extras:")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")][2:]
    named = {item.strip().replace(" ≥ ", ">=") for row in rows for item in row.split(",")}
    assert {item.partition(">=")[0] for item in named} == {item.partition(">=")[0] for item in project["dependencies"]}
    assert {item for item in named if ">=" in item} <= set(project["dependencies"])
    extras = rest.partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", extras)) == set(project["optional-dependencies"])


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_bytes()) <= 10_000, "move tables and details to a page of docs/"


def test_version_is_the_same_everywhere():
    assert f"version: {kerazoo.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert f"## [{kerazoo.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()
