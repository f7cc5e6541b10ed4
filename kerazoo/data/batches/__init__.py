"""From a source to batches: draw, decode, cache, resize, augment, batch, serve."""
