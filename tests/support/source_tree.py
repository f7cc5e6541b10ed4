"""The package's source files as syntax trees, for the tests that read code instead of running it."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "kerazoo"


def modules(root: Path = PACKAGE) -> Iterator[tuple[str, ast.Module]]:
    """Path relative to `root` in posix form, and syntax tree, of every Python file below `root`."""
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), ast.parse(path.read_text(), filename=str(path))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported anywhere in a module, also inside functions.

    `from a import b` gives "a.b", `import_module("a.b")` and `require("a.b", ...)` give "a.b". What only type checkers
    import (`if TYPE_CHECKING:`) counts too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute here"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and dotted(node.func).rpartition(".")[2] in {"import_module", "require"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def dotted(node: ast.AST) -> str:
    """`a.b.c` for the expression a.b.c, and "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        parent = dotted(node.value)
        return f"{parent}.{node.attr}" if parent else ""
    return ""
