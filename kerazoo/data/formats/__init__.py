"""From bytes to arrays: images, DICOM, NIfTI, run lengths, COCO files, TFRecord; no idea of a data set."""
