"""Two stages in one SavedModel: any size in, and rejected images come out empty there too."""

import keras
import numpy as np
import tensorflow as tf
from support.tiers import thorough

import kerazoo as kz
from kerazoo.encoders.resnet import basic_block

TINY = kz.encoders.ResNet(block=basic_block, depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), expansion=1, stem_width=8)


@thorough
def test_export_of_two_stages(tmp_path):
    """The classifier sees 24 x 24 pixels, the brightest of which says whether the image shows something."""
    image = keras.Input((24, 24, 3))
    dense = keras.layers.Dense(1)
    classifier = keras.Model(image, dense(keras.layers.GlobalMaxPooling2D()(image)))
    dense.set_weights([np.full((3, 1), 1 / 3, "float32"), np.array([-128.0], "float32")])
    segmenter = kz.segmenter(TINY, kz.decoders.UNet(widths=(8,)), "linear", num_classes=3, depth=2, aux=True)
    model = kz.inference.TwoStage(classifier, segmenter)
    kz.export.saved_model(model, tmp_path / "served", verbose=False)  # compares it at sizes of its own choice

    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    images = np.stack([np.full((45, 38, 3), 10), np.full((45, 38, 3), 240)]).astype("uint8")
    outputs = {name: value.numpy() for name, value in served(images=tf.constant(images)).items()}
    assert outputs["mask"].shape == (2, 45, 38)
    assert not outputs["mask"][0].any()
    assert outputs["score"][0] < 1e-12 < outputs["score"][1]
    assert outputs["label"].round(3).tolist() == [[0], [1]]
    for position, prediction in enumerate(kz.inference.predict(model, images)):
        np.testing.assert_array_equal(prediction.mask, outputs["mask"][position])
        np.testing.assert_allclose(prediction.probability, outputs["probability"][position], atol=1e-5)
