"""Encoders as tests take them: the model and the strides of its outputs."""

from kerazoo.encoders import build


def build_encoder(part, **arguments):
    built = build.build_encoder(part, **arguments)
    return built.model, built.strides
