"""Pretrained weights: records, the catalog, where they come from, downloads, and reading tensors."""
