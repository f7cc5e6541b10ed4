"""Import optional packages with an error that says what to install."""

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which comes with an extra of kerazoo.

    Args:
        module: Dotted name of the module.
        extra: Name of the extra of kerazoo that installs it.

    Returns: The imported module.

    Raises:
        ModuleNotFoundError: `module` itself is not installed. A module that is installed but broken speaks for itself.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in {module, package}:
            raise
        raise ModuleNotFoundError(
            f"This needs the package `{package}`, which is not installed. Type: pip install 'kerazoo[{extra}]'",
            name=error.name,
        ) from error
