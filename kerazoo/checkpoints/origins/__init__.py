"""Records of pretrained weights, one module per origin; what the facts are taken from is said at its top."""
