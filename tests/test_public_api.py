"""The public names: frozen with their signatures in api.txt, keyword-only defaults, complete docstrings."""

import ast
import functools
import importlib
import inspect
import re
import textwrap
from types import ModuleType

import pytest
from support.source_tree import modules

import kerazoo

# Arguments with a default that may also be given by position, because that is how people type them.
POSITIONAL_DEFAULTS = {
    "list(pattern)": 'kz.losses.list("*dice*")',
    "records(pattern)": 'kz.pretrained.records("resnet50.*")',
    "from_smp(config)": "kz.pretrained.from_smp(state_dict, config)",
    "RAdam(learning_rate)": "kz.optimizers.RAdam(1e-3), as every Keras optimizer",
    "AngularGrad(learning_rate)": "kz.optimizers.AngularGrad(1e-3), as every Keras optimizer",
    "freeze(part)": 'kz.freeze(model, "encoder")',
    "unfreeze(part)": 'kz.unfreeze(model, "encoder")',
    "saved_model(rule)": "kz.export.saved_model(model, path, rule)",
    "study(data)": 'kz.training.study("study.yaml", directory, data)',
    "train(data)": "kz.training.train(recipe, run_directory, data)",
    "evaluate(split)": 'kz.training.evaluate(run_directory, "val", data)',
    "evaluate(data)": 'kz.training.evaluate(run_directory, "val", data)',
    "load(overrides)": 'kz.training.Recipe.load(path, ["training.epochs=2"])',
    "contract_cases(kind)": 'kz.testing.contract_cases("decoder")',
}


def public(module: ModuleType, prefix: str = "kerazoo"):
    """Dotted name and object of everything in `__all__`, and of the public methods of its classes."""
    assert hasattr(module, "__all__"), f"{prefix} is public: name what of it is, in __all__"
    for name in sorted(module.__all__):
        value, path = getattr(module, name), f"{prefix}.{name}"
        if isinstance(value, ModuleType):
            if callable(value):  # kerazoo.doctor is a function, too
                yield path, type(value).__call__
            yield from public(value, path)
            continue
        yield path, value
        if inspect.isclass(value):
            for member, function in sorted(vars(value).items()):
                inherited = any(hasattr(base, member) for base in value.__bases__)  # its contract is the base's
                if not (member.startswith("_") or inherited) and callable(unwrapped(function)):
                    yield f"{path}.{member}", unwrapped(function)


def unwrapped(member):
    """The function of a method, static method, class method or property."""
    return getattr(member, "fget", None) or getattr(member, "__func__", member)


def callables():
    return [(path, value) for path, value in public(kerazoo) if callable(value)]


def signature(value) -> str:
    """Parameters with kinds and defaults, without annotations; "" for what is not called."""
    if not callable(value):
        return ""
    plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters(value)]
    text = str(inspect.Signature(plain))
    assert " at 0x" not in text, f"a default of {value} has no readable repr"
    return text


def parameters(value) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(value).parameters.values() if p.name not in {"self", "cls"}]


def positional_defaults(path, value):
    """Arguments of `value` that have a default and are not keyword-only, as "function(argument)"."""
    for parameter in parameters(value):
        if parameter.default is not parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            yield f"{path.rpartition('.')[2]}({parameter.name})"


def docstring_faults(path, value):
    """What the docstring of a function or class of ours leaves out, one line per fault."""
    text = inspect.getdoc(value) or ""
    if not text:
        yield f"{path}: no docstring"
    alone = len(parameters(value)) == 1 and "Args:" not in text  # the summary says what is done to it
    for parameter in parameters(value):
        if not alone and parameter.kind is not parameter.VAR_KEYWORD and not re.search(rf"\b{parameter.name}\b", text):
            yield f"{path}: argument {parameter.name} is not described"
    if inspect.isfunction(value):
        returns = inspect.signature(value).return_annotation
        if returns not in {None, "None", inspect.Signature.empty} and "Args:" in text and "Returns:" not in text:
            yield f"{path}: no Returns"
    if raises(value) and "Raises:" not in text:
        yield f"{path}: raises, and has no Raises"


def raises(value) -> bool:
    """Whether a function, or the construction of a class, has a `raise` in its own body."""
    bodies = [value] if inspect.isfunction(value) else [vars(value).get(n) for n in ("__init__", "__post_init__")]
    for body in filter(inspect.isfunction, bodies):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(body)))
        except OSError:  # the __init__ that a dataclass writes has no source
            continue
        if any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(tree)):
            return True
    return False


def test_every_all_resolves():
    for path, tree in modules():
        if any(isinstance(node, ast.Name) and node.id == "__all__" for node in ast.walk(tree)):
            name = ("kerazoo." + path.removesuffix(".py").replace("/", ".")).removesuffix(".__init__")
            module = importlib.import_module("kerazoo" if path == "__init__.py" else name)
            assert [item for item in module.__all__ if not hasattr(module, item)] == [], path
            assert len(set(module.__all__)) == len(module.__all__), path
    assert set(dir(kerazoo)) >= set(kerazoo.__all__)


def test_unknown_attribute_says_so():
    with pytest.raises(AttributeError, match="module 'kerazoo' has no attribute 'segmentr'"):
        kerazoo.segmentr  # noqa: B018


def test_names_and_signatures_are_those_of_api_txt(golden):
    lines = [f"{path}{signature(value)}" for path, value in public(kerazoo) if path != "kerazoo.__version__"]
    golden("../api.txt", "\n".join(lines) + "\n")


def test_public_modules_are_imported_by_their_dotted_names():
    """`from kerazoo.data.sampling import Order` too, wherever the module's file is."""
    paths = {path for path, _ in public(kerazoo)}
    owners = {path.rpartition(".")[0] for path in paths} - {"kerazoo"} - paths  # without classes, which have methods
    assert "kerazoo.data.sampling" in owners
    for path in sorted(owners):
        _, *names = path.split(".")
        assert importlib.import_module(path) is functools.reduce(getattr, names, kerazoo), path


def test_defaults_are_keyword_only():
    found = {fault for path, value in callables() for fault in positional_defaults(path, value)}
    assert found - POSITIONAL_DEFAULTS.keys() == set(), "put a * before it"
    assert POSITIONAL_DEFAULTS.keys() - found == set(), "no longer needed in the table"


def test_docstrings_are_complete():
    ours = [(path, value) for path, value in callables() if getattr(value, "__module__", "").startswith("kerazoo")]
    assert len(ours) > 30
    assert [fault for path, value in ours for fault in docstring_faults(path, value)] == []


def test_the_checks_can_fail():
    def undocumented(image, size=2):
        """Resize."""
        if not size:
            raise ValueError(size)

    assert list(positional_defaults("kz.undocumented", undocumented)) == ["undocumented(size)"]
    assert list(docstring_faults("f", undocumented)) == [
        "f: argument image is not described",
        "f: argument size is not described",
        "f: raises, and has no Raises",
    ]
