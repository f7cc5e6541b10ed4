"""The smallest recipe that trains: 32 pixels, one narrow block per stage."""

from kerazoo.training.recipe import Recipe

TINY = {
    "name": "tiny",
    "data": {
        "source": {
            "name": "synthetic",
            "n": 40,
            "empty_fraction": 0.5,
            "image_size": [32, 32],
            "contrast": [0.3, 0.5],
            "radius": [0.12, 0.3],
            "seed": 1,
        },
        "split": {"fractions": [0.6, 0.2, 0.2]},
        "image_size": 32,
    },
    "model": {
        "depth": 3,
        "encoder": {"name": "resnet18", "depths": [1, 1, 1, 1], "widths": [8, 8, 8, 8], "stem_width": 8},
        "decoder": {"name": "unet", "skip": "sum", "widths": [8, 8, 8]},
        "head": {"name": "mlf", "width": 8, "stride": 2},
    },
    "loss": ["cross_entropy", {"name": "foreground_dice", "weight": 0.1}],
    # beta_2 of 0.9, so that the moments count from the first steps on, and losing them on resuming shows
    "optimizer": {"name": "radam", "learning_rate": 1e-2, "beta_2": 0.9, "schedule": {"name": "cosine", "final": 1e-5}},
    "training": {"epochs": 4, "batch_size": 4, "sampler": "under", "augment": ["flip"]},
    "evaluation": {"threshold": 0.2, "bootstrap": 50, "gallery": 2},
}

FIVE_LEVELS = ("model.depth=null", "model.decoder.widths=[8, 8, 8, 8, 8]")

# Four epochs in two phases, averaged
TWO_PHASES = (
    "training.jit_compile=false",
    "training.epochs=null",
    "training.phases=[{epochs: 2, freeze: encoder}, {epochs: 2, learning_rate: {encoder: 1e-3, rest: 1e-2}, "
    "batchnorm: frozen}]",
    "optimizer.use_ema=true",
    "optimizer.ema_momentum=0.5",
    "evaluation={bootstrap: 0, gallery: 0, threshold: 0.2}",
)


def tiny(*assignments: str) -> Recipe:
    """The recipe with assignments such as `training.epochs=2`."""
    return Recipe.parse(TINY).override(*assignments)
