"""Images per second and core that each source feeds, as files and prepared, beside a PyTorch DataLoader.

The data are written with the libraries of their formats: `folder` gray JPEG of 1024×1024 with PNG masks; `siim` DICOM
of 1024×1024, JPEG-compressed as the archive's, with run lengths; `coco` JPEG of 480×640 with polygons; `lits` NIfTI
slices of 512×512; `synthetic` 512×512, drawn. Each reader decodes image and mask, resizes them (bilinear, nearest), and
makes batches of 16. The PyTorch ones read the same files with Pillow, pydicom, pycocotools and nibabel, as usual, and
for prepared data the same pixels from memory-mapped `.npy` files. Prepared data are shown in epochs of 1024 images,
each several times, because to start an epoch takes tf.data as long as to read a hundred of them.

Rates are per second of processor time of the whole process, all threads: what one core feeds, also on a busy machine.
The aim: prepared data are read at least 5 times as fast as DICOM.

    python benchmarks/data_sources.py [--images N] [--sources siim …]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import write
from PIL import Image, ImageDraw

import kerazoo as kz

SIZES = ((256, 256), (512, 512))
BATCH, LEAST_S, EPOCH = 16, 2.0, 1024
Pair = tuple[np.ndarray, np.ndarray]
Item = Callable[[int], Pair]


def invented(count: int, size: tuple[int, int]) -> kz.data.Source:
    return kz.data.sources.synthetic(count, image_size=size, empty_fraction=0.5, seed=0)


def folder(root: Path, count: int) -> tuple[kz.data.Source, Item]:
    for image, mask, name in invented(count, (1024, 1024)):
        Image.fromarray(image[..., 0]).save(root / f"{name}.jpg", quality=90)
        Image.fromarray(mask * 255).save(root / f"{name}.png")
    paths = sorted(root.glob("*.jpg"))

    def item(index: int) -> Pair:
        image = Image.open(paths[index]).convert("L")
        return np.asarray(image), (np.asarray(Image.open(paths[index].with_suffix(".png"))) > 127).astype(np.uint8)

    return kz.data.sources.folder(root, mask_values={0: 0, 255: 1}), item


def siim(root: Path, count: int) -> tuple[kz.data.Source, Item]:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    rows = ["ImageId, EncodedPixels"]
    for image, mask, name in invented(count, (1024, 1024)):
        Image.fromarray(image[..., 0]).save(root / "image.jpg", quality=90)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 1024, 1024, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PixelData = encapsulate([(root / "image.jpg").read_bytes()])
        data["PixelData"].is_undefined_length = True
        data.save_as(root / f"{name}.dcm", enforce_file_format=True)
        flat = np.concatenate([[0], mask.T.ravel() > 0, [0]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(flat))
        gaps = np.diff(np.concatenate([[0], edges]))
        rows.append(f"{name}, {' '.join(map(str, gaps)) if len(edges) else '-1'}")
    (root / "train-rle.csv").write_text("\n".join(rows) + "\n")
    runs = dict(row.split(", ") for row in rows[1:])
    paths = sorted(root.glob("*.dcm"))

    def item(index: int) -> Pair:
        mask = np.zeros(1024 * 1024, np.uint8)
        if runs[paths[index].stem] != "-1":
            numbers, at = list(map(int, runs[paths[index].stem].split())), 0
            for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
                at += gap
                mask[at : at + length] = 1
                at += length
        return pydicom.dcmread(paths[index]).pixel_array, mask.reshape(1024, 1024).T

    return kz.data.sources.siim(root, root / "train-rle.csv"), item


def coco(root: Path, count: int) -> tuple[kz.data.Source, Item]:
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(count):
        texture = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize(
            (640, 480), Image.Resampling.BICUBIC
        )
        draw = ImageDraw.Draw(texture)
        for _ in range(int(rng.integers(0, 9))):
            center, turn = rng.uniform((60, 60), (580, 420)), np.sort(rng.uniform(0, 2 * np.pi, 24))
            outline = center + rng.uniform(15, 60, (24, 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
            draw.polygon([tuple(point) for point in outline], fill=(250, 250, 250))
            low, high = outline.min(axis=0), outline.max(axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(1, 4)),
                    "segmentation": [outline.round(2).ravel().tolist()],
                    "area": float(np.prod(high - low) / 2),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "iscrowd": 0,
                }
            )
        texture.save(root / f"{number:06d}.jpg", quality=90)
        images.append({"id": number, "file_name": f"{number:06d}.jpg", "height": 480, "width": 640})
    names = ("bicycle", "car", "dog")
    categories = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    file = root / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    index_of = COCO(str(file))

    def item(index: int) -> Pair:
        image = np.asarray(Image.open(root / f"{index:06d}.jpg").convert("RGB"))
        mask = np.zeros(image.shape[:2], np.uint8)
        for annotation in index_of.loadAnns(index_of.getAnnIds(imgIds=[index], catIds=[1, 2])):
            mask[index_of.annToMask(annotation) > 0] = annotation["category_id"]
        return image, mask

    return kz.data.sources.coco(root, file, classes=["bicycle", "car"]), item


def lits(root: Path, count: int) -> tuple[kz.data.Source, Item]:
    import nibabel

    depth = max(2, count // 2)
    affine = np.diag([-0.8, -0.8, 2.5, 1.0])  # LPS, as scanners have it
    for volume in range(2):
        slices = kz.data.sources.synthetic(depth, image_size=(512, 512), empty_fraction=0.3, num_classes=3, seed=volume)
        stack = np.stack([slices.image(i)[..., 0].astype(np.int16) * 3 - 300 for i in range(depth)], axis=2)
        masks = np.stack([slices.mask(i) for i in range(depth)], axis=2)
        nibabel.save(nibabel.Nifti1Image(stack, affine), root / f"volume-{volume}.nii")
        nibabel.save(nibabel.Nifti1Image(masks, affine), root / f"segmentation-{volume}.nii")

    def item(index: int) -> Pair:
        volume, place = divmod(index, depth)
        files: list[Any] = [nibabel.load(root / f"{what}-{volume}.nii") for what in ("volume", "segmentation")]
        image, mask = (np.asarray(file.dataobj[..., place]).T for file in files)
        return np.clip((image.astype(np.float32) + 160) * (255 / 400), 0, 255), mask.astype(np.uint8)

    return kz.data.sources.lits(root), item


def synthetic(root: Path, count: int) -> tuple[kz.data.Source, Item]:
    source = invented(count, (512, 512))
    return source, lambda index: (source.image(index)[..., 0], source.mask(index))


SOURCES = {"folder": folder, "siim": siim, "coco": coco, "lits": lits, "synthetic": synthetic}


def resized(item: Item, size: tuple[int, int]) -> Item:
    """As a PyTorch user does it, with Pillow."""

    def both(index: int) -> Pair:
        image, mask = item(index)
        small = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(small), np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))

    return both


def torch_loader(item: Item, count: int) -> Any:
    import torch

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> Any:
            image, mask = item(index)
            image = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
            return torch.from_numpy(np.array(image)), torch.from_numpy(np.array(mask)).long()

    return torch.utils.data.DataLoader(Images(), batch_size=BATCH)


def memory_mapped(root: Path, item: Item, count: int) -> Item:
    """The same pixels from two `.npy` files, over and over."""
    for name, part in (("images", 0), ("masks", 1)):
        np.save(root / f"{name}.npy", np.stack([item(index)[part] for index in range(count)]))
    images, masks = (np.load(root / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    return lambda index: (images[index % count], masks[index % count])


def per_core(batches: Any, count: int) -> float:
    """Images per second of processor time; the first epoch is left out, because it traces."""
    for _batch in batches:
        pass
    start, epochs = time.process_time(), 0
    while epochs < 2 or time.process_time() - start < LEAST_S:
        for _batch in batches:
            pass
        epochs += 1
    return epochs * count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.sources:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch, "files")
            root.mkdir()
            source, item = SOURCES[name](root, arguments.images)
            for size in SIZES:
                place = Path(scratch, f"{size[0]}")
                form: dict[str, Any] = {"image_size": size, "batch_size": BATCH, "shuffle": False}
                made, peer, count = kz.data.prepare(source, place, image_size=size), resized(item, size), len(source)
                place.joinpath("npy").mkdir()
                mapped = memory_mapped(place / "npy", peer, count)
                repeated = made.subset(np.arange(EPOCH) % count)
                raw, prepared = (per_core(kz.data.pipeline(part, **form), len(part)) for part in (source, repeated))
                theirs = per_core(torch_loader(peer, count), count)
                their_mapped = per_core(torch_loader(mapped, EPOCH), EPOCH)
                rows.append(
                    {
                        "source": name,
                        "image_size": "x".join(map(str, size)),
                        "batch": BATCH,
                        "kerazoo_images_per_s_per_core": f"{raw:.0f}",
                        "kerazoo_prepared": f"{prepared:.0f}",
                        "prepared_over_raw": f"{prepared / raw:.1f}",
                        "torch_dataloader": f"{theirs:.0f}",
                        "torch_dataloader_npy": f"{their_mapped:.0f}",
                    }
                )
                print(rows[-1], flush=True)
    if arguments.sources == list(SOURCES):
        write("data_sources", rows, "tensorflow", "torch", "pillow", "pydicom", "pycocotools", "nibabel")


if __name__ == "__main__":
    main()
