"""The stages of a pipeline on tf.data: draw, load, batch, augment, make targets, weigh pixels."""

from typing import Any, cast

import numpy as np
import tensorflow as tf

from kerazoo.data.batches.augment import Augmenter
from kerazoo.data.batches.loading import Loader
from kerazoo.data.batches.pixel_weights import PixelWeights
from kerazoo.data.batches.sampling import EpochSampler
from kerazoo.data.source import Source

NEXT = -1
"""Stands for the epoch that the sampler's counter says, instead of a number."""

plain = tf.autograph.experimental.do_not_convert


class Stages:
    """Makes the dataset of an epoch; the methods after `batches` are its stages, in order.

    Args:
        source: The samples.
        sampler: Draws the samples of an epoch.
        loader: Reads and resizes a sample.
        augmenter: Augments a batch, or None.
        outputs: Name of the one target, or the names of several.
        pixel_weights: Weighs the pixels of a mask, or None.
        batch_size: Samples in a batch.
        drop_remainder: Leave out a last batch that is not full.
        workers: Threads that load; None lets tf.data choose.
    """

    def __init__(
        self,
        source: Source,
        sampler: EpochSampler,
        loader: Loader,
        *,
        augmenter: Augmenter | None,
        outputs: str | tuple[str, ...],
        pixel_weights: PixelWeights | None,
        batch_size: int,
        drop_remainder: bool,
        workers: int | None,
    ):
        self.source, self.sampler, self.loader, self.augmenter = source, sampler, loader, augmenter
        self.outputs, self.pixel_weights = outputs, pixel_weights
        self.batch_size, self.drop_remainder = batch_size, drop_remainder
        self.threads = tf.data.AUTOTUNE if workers is None else workers
        self.labels = None if loader.masks else tf.constant(source.labels, tf.float32)

    def batches(self, epoch: int = NEXT) -> tf.data.Dataset:
        """The dataset of one epoch, or one that goes on to the next epoch with each iterator."""
        known = self.drop_remainder or len(self.sampler) % self.batch_size == 0  # the static size of the batch
        return (
            tf.data.Dataset.from_tensors(tf.constant(epoch, tf.int64))
            .flat_map(self.draw)
            .apply(tf.data.experimental.assert_cardinality(len(self.sampler)))
            .map(self.load, num_parallel_calls=self.threads, deterministic=True)
            .batch(self.batch_size, drop_remainder=known)
            .map(self.finish, num_parallel_calls=self.threads, deterministic=True)
            .prefetch(tf.data.AUTOTUNE)
        )

    @plain
    def draw(self, epoch: tf.Tensor) -> tf.data.Dataset:
        """Index and seed of each sample of an epoch."""
        types = (tf.int64, tf.int64)
        index, seeds = tf.numpy_function(self._drawn, [epoch], types, stateful=True)
        size = [len(self.sampler)]
        return tf.data.Dataset.from_tensor_slices((tf.ensure_shape(index, size), tf.ensure_shape(seeds, size)))

    @plain
    def load(self, index: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Image and mask of a sample, decoded and resized or cropped."""
        types = (tf.as_dtype(self.loader.dtype), tf.uint8)
        image, mask = tf.numpy_function(self.loader, [index, seed], types, stateful=False)
        return tf.ensure_shape(image, self.loader.shape), tf.ensure_shape(mask, self.loader.mask_shape), index, seed

    @plain
    def finish(self, images: tf.Tensor, masks: tf.Tensor, index: tf.Tensor, seeds: tf.Tensor) -> tuple[Any, ...]:
        """What `fit` is given of a batch: images, targets and, if there are any, weights of pixels."""
        images, ids = self.augment(images, masks, seeds)
        targets = self.targets(ids, index)
        return (images, targets) if self.pixel_weights is None else (images, targets, self.weigh(ids, seeds))

    def augment(self, images: tf.Tensor, masks: tf.Tensor, seeds: Any) -> tuple[tf.Tensor, Any]:
        """Augmented images, and masks as int32 or None; the first sample's seed is that of the batch."""
        ids = masks if self.loader.masks else None
        if self.augmenter is not None:
            seed = tf.cast(tf.stack([seeds[0] // 2**31, seeds[0] % 2**31]), tf.int32)
            images, ids = self.augmenter(images, ids, seed)
        return images, None if ids is None else tf.cast(ids, tf.int32)

    def targets(self, masks: tf.Tensor | None, index: tf.Tensor) -> Any:
        """The mask, the image-level label, or a dict of them."""
        return self._by_output(masks, lambda: self._labels(masks, index))

    def weigh(self, masks: tf.Tensor, seeds: tf.Tensor) -> Any:
        """Weights of the pixels in the form of the targets; each label weighs 1."""
        weights = tf.numpy_function(self._weights, [masks, seeds], tf.float32, stateful=False)
        return self._by_output(tf.ensure_shape(weights, masks.shape), lambda: tf.ones([tf.shape(masks)[0]]))

    def _by_output(self, of_pixels: Any, of_images: Any) -> Any:
        """A value for each output: `of_pixels`, or for labels what `of_images` returns."""
        if isinstance(self.outputs, str):
            return of_images() if self.outputs == "label" else of_pixels
        return {name: of_images() if name == "label" else of_pixels for name in self.outputs}

    def _labels(self, masks: tf.Tensor | None, index: tf.Tensor) -> tf.Tensor:
        """Image-level labels, float32: of the source where no mask is opened, else what `(B, H, W)` masks show."""
        if masks is None:
            return tf.gather(self.labels, index)
        classes = self.source.num_classes
        shown = [tf.reduce_any(masks == k, axis=(1, 2)) for k in range(1, max(classes, 2))]
        if classes > 1:
            shown.insert(0, ~tf.reduce_any(tf.stack(shown), axis=0))
        return tf.cast(tf.stack(shown, axis=1), tf.float32)

    def _drawn(self, epoch: np.integer) -> tuple[np.ndarray, np.ndarray]:
        return self.sampler(None if epoch == NEXT else int(epoch))

    def _weights(self, masks: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """`(B, H, W)` float32; each mask has a random generator of its own."""
        weigh = cast(PixelWeights, self.pixel_weights)
        weights = [
            np.asarray(weigh(mask, ignore_class=self.source.ignore_class, rng=np.random.default_rng(int(seed))))
            for mask, seed in zip(masks, seeds, strict=True)
        ]
        if wrong := {each.shape for each in weights} - {masks.shape[1:]}:
            raise ValueError(f"`pixel_weights` gives {wrong.pop()} for a mask {masks.shape[1:]}: {weigh!r}.")
        return np.stack(weights).astype(np.float32)
