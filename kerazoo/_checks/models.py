"""What the checks of several kinds of parts share: images, outputs, reading a model back."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerazoo.outputs import as_list

ODD_SIZE, EVEN_SIZE = (45, 67), (64, 32)
"""Height and width of the images."""


def random_image(height: int, width: int, channels: int) -> np.ndarray:
    """`(2, height, width, channels)` float32 in [0, 1), the same at every call."""
    return np.random.default_rng(0).random((2, height, width, channels), dtype="float32")


def own_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers of a model and of the models inside it, but not those that a layer keeps for itself."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from own_layers(layer)
        else:
            yield layer


def check_reload(model: keras.Model, inputs: Any) -> None:
    """Names are unique, the configuration is JSON, and a model read back from its file gives the same outputs."""
    names = [layer.name for layer in own_layers(model)]
    assert len(set(names)) == len(names), f"names repeat: {sorted(n for n in names if names.count(n) > 1)}"
    kinds = {type(layer) for layer in own_layers(model)}
    unknown = sorted(kind.__name__ for kind in kinds if not _is_found_by_name(kind))
    assert not unknown, (
        f"{unknown} are layers that another process cannot read back from a file: decorate them with "
        "@keras.saving.register_keras_serializable(…)"
    )
    json.dumps(model.get_config())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        try:
            loaded = keras.models.load_model(path)
        except (TypeError, ValueError) as error:
            raise AssertionError(f"the file of a saved model cannot be read back: {error}") from error
    expected, received = as_list(model.predict_on_batch(inputs)), as_list(loaded.predict_on_batch(inputs))
    reason = "a model read back has other outputs than the model that was saved: is every argument in get_config()?"
    for old, new in zip(expected, received, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5, err_msg=reason)


def _is_found_by_name(kind: type) -> bool:
    """Whether a class is Keras's own or registered."""
    return kind.__module__.partition(".")[0] == "keras" or ">" in keras.saving.get_registered_name(kind)
