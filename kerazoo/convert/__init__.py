"""Models of other libraries as models of ours, and classifiers as segmenters. Public as `kerazoo.pretrained`."""
