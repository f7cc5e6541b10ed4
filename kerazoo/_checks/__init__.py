"""Contract checks of parts, collected by `kerazoo.testing`."""
