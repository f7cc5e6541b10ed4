"""Files of weights as timm would write them."""

import keras
import pytest
from safetensors.numpy import save_file
from support.golden_rule import fill

from kerazoo.checkpoints import tensors
from kerazoo.encoders.build import build_encoder


@pytest.fixture
def checkpoint(tmp_path):
    """Writes the file that timm would: all tensors of a part's classifier by the rule, and counters."""

    def write(part):
        model = build_encoder(part, image_shape=(32, 32, 3)).model
        whole = keras.Model(model.input, part.top(model.outputs[-1], num_classes=1000))
        shapes = tensors.places(whole, part.state_dict_name)
        shapes |= {
            name.replace("running_var", "num_batches_tracked"): () for name in shapes if name.endswith("running_var")
        }
        path = tmp_path / "timm.safetensors"
        save_file({name: fill(name, shape) for name, shape in shapes.items()}, path)
        return path

    return write
