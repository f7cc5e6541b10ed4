"""Pixels and images side by side: against scikit-learn, stamped with where the threshold comes from, in the report."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

from kerazoo.data.reader import Facts
from kerazoo.data.reader import Reader as BaseReader
from kerazoo.data.source import Source
from kerazoo.report import html
from kerazoo.weak import Threshold, cam_beta, evaluate

pytestmark = pytest.mark.backends
SIZES = [(12, 16), (16, 12), (12, 16), (12, 16), (16, 12), (12, 16)]


class Reader(BaseReader):
    """Images whose channels are the logits that a model of no weights gives, with masks that differ from them."""

    def __init__(self, num_classes, ignore_class=None):
        rng = np.random.default_rng(5)
        self.ids = [f"<b>{i}</b>" for i in range(len(SIZES))]
        self.num_classes, self.ignore_class = num_classes, ignore_class
        self.class_names = ("crack",) if num_classes == 1 else ("background", "crack", "fray")[:num_classes]
        self.images = [rng.normal(-1, 2, (*size, num_classes)).astype("float32") for size in SIZES]
        self.images[1] -= 20 * (np.arange(num_classes) > 0) if num_classes > 1 else 20
        self.masks = [rng.integers(0, max(2, num_classes), size).astype(np.uint8) for size in SIZES]
        self.masks[1][:], self.masks[2][:] = 0, 0
        if ignore_class is not None:
            for mask in self.masks:
                mask[:2] = ignore_class
        shown = [[(mask == k).any() for k in range(1, max(2, num_classes))] for mask in self.masks]
        labels = np.array(shown)
        labels = labels if num_classes == 1 else np.concatenate([~labels.any(1, keepdims=True), labels], 1)
        self.facts = Facts(labels, np.array([image.shape for image in self.images]))

    def image(self, index):
        return self.images[index]

    def mask(self, index):
        return self.masks[index]

    def fingerprint(self, index):
        return str(index)


def identity(channels):
    image = keras.Input((None, None, channels))
    return keras.Model(image, keras.layers.Activation("linear", dtype="float32")(image))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("ignore_class", [None, 255])
def test_binary_scores_are_those_of_scikit_learn(ignore_class):
    reader = Reader(1, ignore_class)
    result = evaluate(identity(1), Source(reader), threshold=0.3)
    truth = np.concatenate([mask.ravel() for mask in reader.masks])
    found = np.concatenate([(sigmoid(image) > 0.3).ravel() for image in reader.images])
    kept = truth != 255
    shown = reader.facts.labels[:, 0]
    there = np.array([sigmoid(image).max() > 0.3 for image in reader.images])
    assert there.tolist() != shown.tolist(), "one image is wrongly found"
    for prefix, pair in (("", (truth[kept], found[kept])), ("cls_", (shown, there))):
        expected = {
            "accuracy": metrics.accuracy_score(*pair),
            "mcc": metrics.matthews_corrcoef(*pair),
            "iou": metrics.jaccard_score(*pair),
            "dice": metrics.f1_score(*pair),
            "precision": metrics.precision_score(*pair),
            "recall": metrics.recall_score(*pair),
        }
        for name, value in expected.items():
            assert result["metrics"][prefix + name] == pytest.approx(value, abs=1e-5), prefix + name


def test_several_classes_are_averaged():
    reader = Reader(3)
    result = evaluate(identity(3), Source(reader), threshold=0.4)
    truth = np.concatenate([mask.ravel() for mask in reader.masks])
    found = []
    for image in reader.images:
        maps = sigmoid(image[..., 1:])
        best = np.where(maps > 0.4, maps, -1)
        found.append(np.where(best.max(-1) > 0, 1 + best.argmax(-1), 0).ravel())
    found = np.concatenate(found)
    expected = metrics.jaccard_score(truth, found, labels=[1, 2], average="macro")
    assert result["metrics"]["iou"] == pytest.approx(expected, abs=1e-5)
    assert result["metrics"]["mcc"] == pytest.approx(metrics.matthews_corrcoef(truth, found), abs=1e-5)
    there = np.stack([(sigmoid(image[..., 1:]) > 0.4).any((0, 1)) for image in reader.images])
    pairs = [(reader.facts.labels[:, k + 1], there[:, k]) for k in range(2)]
    expected = np.mean([metrics.accuracy_score(*pair) for pair in pairs])
    assert result["metrics"]["cls_accuracy"] == pytest.approx(expected)


def test_the_label_of_the_model_decides_where_there_is_one():
    """A model of labels by the mean says of other images than the maximum of the map that they show the class."""
    source = Source(Reader(1))
    weak = cam_beta(identity(1), pooling="gap")
    by_label, by_map = (evaluate(weak, source, threshold=0.3, labels=how) for how in ("model", "maps"))
    assert by_label["labels"] == "label logit above 0"
    assert by_label["metrics"]["cls_recall"] == 0, "every mean is below 0"
    assert by_map["labels"] == "maximum of the map above the threshold"
    assert by_map["metrics"]["cls_recall"] == 1
    assert by_label["metrics"]["iou"] == by_map["metrics"]["iou"]


def test_what_a_threshold_was_chosen_with_is_in_the_report(tmp_path):
    source = Source(Reader(3))
    for using, words in (("masks", "chosen WITH MASKS"), ("image_labels", "no mask was opened")):
        threshold = Threshold(value=0.4, normalize="sigmoid", using=using, score=0.5, images=6)
        result = evaluate(identity(3), source, threshold=threshold, to=tmp_path / using, pictures=4)
        assert words in result["chosen"]
        assert json.loads((tmp_path / using / "weak.json").read_text()) == json.loads(json.dumps(result))
        page = (tmp_path / using / "report.html").read_text()
        assert words in page
        assert page.count("data:image/png") == 1, "heat maps are shown once, in their section"
        assert f"{result['metrics']['cls_mcc']:.3f}" in page
    with Image.open(tmp_path / "masks" / "gallery" / "heat_maps.png") as picture:
        assert picture.height > picture.width / 2, "four rows of four columns"


def test_a_report_escapes_what_is_in_the_result(tmp_path):
    threshold = Threshold(value=0.4, normalize="sigmoid", using="masks")
    evaluate(identity(1), Source(Reader(1)), threshold=threshold, to=tmp_path)
    text = (tmp_path / "weak.json").read_text().replace("chosen WITH MASKS", "<script>alert(1)</script>")
    (tmp_path / "weak.json").write_text(text)
    page = html.write(tmp_path).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"labels": "head"}, "`labels` must be 'model' or 'maps'"), ({"pictures": 65}, "`pictures` must be 1 to 64")],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(identity(1), Source(Reader(1)), threshold=0.5, **arguments)
    reader = Reader(1)
    reader.has_masks = False
    with pytest.raises(ValueError, match="`source` has image labels alone"):
        evaluate(identity(1), Source(reader), threshold=0.5)
