"""The pyramid and outputs of `golden/make_context_decoders.py`, and decoders wired on it alone."""

import numpy as np

from kerazoo.checkpoints import tensors
from support.golden_rule import fill
from support.pyramids import arrays, decoder_model, run, strides_of
from support.source_tree import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "context_decoders.npz"
STRIDES, CHANNELS, SIZE = (2, 4, 8, 16), (16, 20, 24, 28), (48, 80)


def wired(decoder, strides=STRIDES, channels=CHANNELS):
    """A model from the levels of a pyramid of any size to the decoded levels, and the strides of these."""
    levels = tuple(zip(strides, channels, strict=True))
    return decoder_model(decoder, levels), strides_of(decoder, levels)


def pyramid(size=SIZE, strides=STRIDES, channels=CHANNELS, batch=1):
    """Maps of an image of `size`."""
    return arrays(tuple(zip(strides, channels, strict=True)), size, batch)


def parameters(decoder, **options):
    model, _ = wired(decoder, **options)
    return model.count_params()


def error_to_golden(decoder, name, state_dict_name, *, step=1):
    """Largest difference from the reference's finest map, by the reference's largest value."""
    model, _ = wired(decoder)
    tensors.assign(
        model, {key: fill(key, shape) for key, shape in tensors.places(model, state_dict_name).items()}, state_dict_name
    )
    output = run(model, pyramid())[0][:, ::step, ::step]
    with np.load(GOLDEN) as golden:
        assert output.shape == golden[name].shape
        return np.abs(output - golden[name]).max() / np.abs(golden[name]).max()
