"""What `make test` leaves to CI, so that it takes minutes: `make test-thorough` runs the rest on every backend."""

import keras
import pytest

thorough = pytest.mark.thorough

on_one_backend = pytest.mark.backends if keras.backend.backend() == "torch" else thorough
"""For what backends hardly change: by default on PyTorch alone, which compiles nothing."""
