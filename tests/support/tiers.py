"""What `make test` leaves to `make test-thorough`, so that it takes minutes. CI runs that on TensorFlow."""

import keras
import pytest

thorough = pytest.mark.thorough

on_one_backend = pytest.mark.backends if keras.backend.backend() == "torch" else thorough
"""For what backends hardly change: by default on PyTorch alone, which compiles nothing."""
