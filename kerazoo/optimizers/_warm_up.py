"""A learning rate that rises before its schedule begins; Keras has that for the cosine alone."""

from typing import Any

import keras
from keras import ops

from kerazoo.types import Tensor


@keras.saving.register_keras_serializable("kerazoo", name="optimizers.WarmUp")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rise in a straight line from 0 to the first value of a schedule, which then begins.

    Args:
        schedule: A schedule of `keras.optimizers.schedules`.
        steps: Steps of the rise, at least 1; the schedule begins after them.

    Raises:
        ValueError: `steps` is not at least 1.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, *, steps: int):
        if steps < 1:
            raise ValueError(f"`steps` of a warm-up must be at least 1, received {steps}.")
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        begun = self.schedule(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, self.schedule(0) * step / self.steps, begun)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), steps=config["steps"])
