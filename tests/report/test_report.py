"""Pictures and the HTML page: right colors, any image, no leak, nothing from the network."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from kerazoo.report import html, plots
from kerazoo.report.colors import CLASS_COLORS, ERROR_COLORS, hex_to_rgb, to_rgb


def test_error_map_paints_each_kind_of_error():
    truth, prediction = np.array([[0, 1, 0, 1, 2]]), np.array([[0, 1, 1, 0, 1]])
    painted = plots.error_map(truth, prediction)
    kinds = ["correct", "false positive", "false negative", "wrong class"]
    assert painted.shape == (1, 5, 3)
    assert painted.dtype == np.uint8
    assert painted[0, 0].tolist() == [0, 0, 0]
    assert painted[0, 1:].tolist() == [hex_to_rgb(ERROR_COLORS[kind]).tolist() for kind in kinds]


def test_classes_and_errors_share_no_color():
    assert not set(CLASS_COLORS) & set(ERROR_COLORS.values())


def test_overlay_outlines_outside_and_leaves_the_rest():
    image = np.full((9, 9), 100, "uint8")
    mask = np.zeros((9, 9), "uint8")
    mask[4, 4] = 1
    painted = plots.overlay(image, mask)
    color = hex_to_rgb(CLASS_COLORS[0])
    assert (painted[3, 4] == color).all()  # outline
    assert not (painted[4, 4] == color).all()  # tinted, not covered
    assert not (painted[4, 4] == 100).all()
    assert (painted[0] == 100).all()


@pytest.mark.parametrize(
    "image",
    [
        np.arange(12, dtype="uint16").reshape(3, 4) * 5000,
        np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4, 1),
        np.array([[np.nan, np.inf, 1.0, 2.0]], "float32"),
        np.zeros((3, 4, 2), "int16"),
        np.arange(48, dtype="float64").reshape(3, 4, 4),
    ],
    ids=["uint16", "float", "not-finite", "two-channels", "rgba"],
)
def test_any_image_can_be_shown(image):
    shown = to_rgb(image)
    assert shown.shape == (*image.shape[:2], 3)
    assert shown.dtype == np.uint8
    if np.ptp(image[np.isfinite(image)]) > 0:
        assert np.ptp(shown) > 200


def test_uint8_is_shown_as_it_is():
    image = np.array([[[1, 2, 3]]], "uint8")
    assert to_rgb(image).tolist() == image.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.overlay(np.zeros((4, 4)), np.zeros((4, 5))), r"`image` and `mask` must have the same height"),
        (lambda: plots.error_map(np.zeros((4, 4)), np.zeros((5, 4))), r"`truth` and `prediction` must have the same"),
        (lambda: plots.error_map(np.zeros((4, 4, 2)), np.zeros((4, 4))), r"`truth` must hold class ids of shape"),
        (lambda: to_rgb(np.zeros((0, 4))), r"`image` must have shape"),
        (
            lambda: plots.gallery(
                [{"image": np.zeros((4, 4)), "truth": np.zeros((4, 4)), "prediction": np.zeros((4, 5))}], "x"
            ),
            r"`image`, `truth` and `prediction` of a row must have the same height and width",
        ),
        (lambda: plots.gallery([], "never.png"), r"`rows` must hold 1 to 64 cases; received 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        ([[0, 0]], [[0, 0]], "empty, nothing found"),
        ([[0, 0]], [[1, 0]], "empty, 1 false-positive px"),
        ([[1, 1]], [[1, 0]], "Dice 0.67"),
        ([[1, 2]], [[1, 1]], "Dice 0.33"),  # mean of 2/3 and 0
    ],
)
def test_cases_are_described(truth, prediction, words):
    assert plots.describe(np.array(truth), np.array(prediction)) == words


def test_gallery_takes_any_mixture_of_images(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for size, dtype in (((40, 64), "uint8"), ((64, 20, 3), "uint16"), ((30, 30, 1), "float32")):
        mask = np.zeros(size[:2], "uint8")
        mask[4:9, 5:12] = len(rows)
        image = (255 * rng.random(size)).astype(dtype)
        rows.append({"image": image, "truth": mask, "prediction": np.roll(mask, 2), "id": "$x_$ <b>"})
    written = plots.gallery(rows, tmp_path / "new" / "gallery.png", class_names=["background", "crack", "fray"])
    picture = np.asarray(Image.open(written).convert("RGB"))
    assert picture.std() > 20
    for color in (ERROR_COLORS["false positive"], ERROR_COLORS["false negative"], CLASS_COLORS[0], CLASS_COLORS[1]):
        assert (np.abs(picture.astype(int) - hex_to_rgb(color)).max(axis=-1) < 12).sum() > 20, color


def test_ignored_pixels_are_drawn_as_background(tmp_path):
    image, prediction = np.zeros((20, 20), "uint8"), np.ones((20, 20), "uint8")
    truth = np.full((20, 20), 255, "uint8")
    truth[:10] = 1
    row = {"image": image, "truth": truth, "prediction": prediction}
    orange = hex_to_rgb(ERROR_COLORS["false positive"]).astype(int)
    for ignore_class, seen in ((255, False), (None, True)):
        written = plots.gallery([row], tmp_path / "gallery.png", ignore_class=ignore_class)
        picture = np.asarray(Image.open(written).convert("RGB"))[:250]  # without the legend
        purple = (np.abs(picture - hex_to_rgb(ERROR_COLORS["wrong class"]).astype(int)).max(axis=-1) < 12).any()
        assert purple == seen
        assert not (np.abs(picture - orange).max(axis=-1) < 12).any()


METRICS = "epoch,loss,val_loss,iou,val_iou\n0,1.0,1.1,0.1,NA\n1,0.5,0.7,0.3,0.2\n"


def test_curves_skip_gaps_and_keep_the_last_of_a_repeated_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS + "1,0.4,0.6,0.4,0.25\n2,0.3,0.5,0.5,0.3\n")
    epochs, columns = plots.read_metrics(tmp_path / "metrics.csv")
    assert epochs.tolist() == [1, 2, 3]
    assert columns["loss"].tolist() == [1.0, 0.4, 0.3]
    assert np.isnan(columns["val_iou"][0])
    written = plots.curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert np.asarray(Image.open(written).convert("L")).std() > 5


def test_curves_without_an_epoch_say_so(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,loss\n")
    with pytest.raises(ValueError, match="no finished epoch"):
        plots.curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        plots.curves(tmp_path / "absent.csv", tmp_path / "curves.png")


@pytest.fixture
def run(tmp_path):
    directory = tmp_path / "run-1"
    (directory / "gallery").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(directory / "gallery" / "worst.png")
    per_image = [
        {"id": "<script>alert(1)</script>", "dice": 0.1, "false_positives": 3, "false_negatives": 4},
        {"id": "fine", "dice": 0.9, "false_positives": 0, "false_negatives": 1},
    ]
    evaluation = {
        "split": "test",
        "checkpoint": "best",
        "epoch": 1,
        "decision": "pixel threshold 0.3",
        "metrics": {"iou": {"value": 0.7123, "low": 0.65, "high": 0.76}, "empty_false_positive_pixels": 12.5},
        "trivial": {"iou": {"value": 0.0123}, "empty_false_positive_pixels": 4096.0},
        "per_image": per_image,
    }
    (directory / "evaluation.json").write_text(json.dumps(evaluation))
    (directory / "recipe.yaml").write_text("data: {root: /home/jane roe/tiles, image_size: [64, 64]}\nseed: 3\n")
    audit = {
        "source": "Source: 3 images",
        "splits": {"train": {"images": 2, "foreground": 1}, "test": {"images": 1, "foreground": 1}},
        "warnings": ["tile 3 is blank", "/home/jane roe/tiles/4.png is gray"],
    }
    (directory / "audit.json").write_text(json.dumps(audit))
    return directory


def test_report_shows_numbers_beside_the_trivial_predictor(run):
    page = html.write(run).read_text(encoding="utf-8")
    for text in ("0.712", "0.650 – 0.760", "0.012", "12.5", "image_size", "1 (50.0 %)"):
        assert text in page
    body = page[page.index("</nav>") :]
    assert body.index("Foreground IoU") < body.index("Worst cases") < body.index("All metrics")
    assert not list(run.glob("*.part"))


RULE = {
    "pixel_threshold": 0.3,
    "image_threshold": 0.7,
    "min_area": 4,
    "per_component": False,
    "score": "pixel",
    "rank": 1,
}


@pytest.fixture
def tuned(tmp_path):
    """A surface of 2 x 3 x 2 rules, one of a refinement, one of another kind, and the rule that was chosen."""
    lines = ["pixel_threshold,image_threshold,min_area,per_component,score,rank,value,round,metric,split"]
    values = itertools.product((0.3, 0.5), ("", 0.2, 0.7), (0, 4))
    for number, (pixel, image, area) in enumerate(values):
        value = "nan" if number == 3 else number / 100 + 0.5 * (pixel == 0.3)
        lines.append(f"{pixel},{image},{area},False,pixel,1,{value},0,dice,val")
    lines += ["0.31,0.7,4,False,pixel,1,0.9,1,dice,val", "0.3,0.7,4,True,pixel,1,0.99,0,dice,val"]
    (tmp_path / "rule_surface.csv").write_text("\n".join(lines) + "\n")
    start = RULE | {"pixel_threshold": 0.5, "image_threshold": None, "min_area": 0}
    facts = {"metric": "dice", "split": "val", "images": 1234, "value": 0.55, "start_value": 0.06}
    content = {"rule": RULE, "start": start, "checkpoint": "best", "epoch": 7, **facts}
    (tmp_path / "rule.json").write_text(json.dumps(content))
    return tmp_path


def test_surface_takes_the_best_of_the_other_settings(tuned):
    grid = plots._grid(tuned / "rule_surface.csv", RULE)
    assert len(grid) == 12, "neither the refinement nor the other kind of rule"
    assert plots._envelope(grid, "pixel_threshold") == ([0.3, 0.5], pytest.approx([0.55, 0.11]))
    assert plots._envelope(grid, "image_threshold") == ([-np.inf, 0.2, 0.7], pytest.approx([0.51, 0.52, 0.55]))
    assert plots._envelope(grid, "min_area") == ([0, 4], pytest.approx([0.54, 0.55]))
    cells, best = plots._envelope(grid, "pixel_threshold", "image_threshold")
    assert dict(zip(cells, best, strict=True))[0.3, 0.2] == pytest.approx(0.52), "the rule without a value is left out"
    assert [plots._place([-np.inf, 0.2, 0.7], value) for value in (None, 0.2, 0.45, 0.7)] == [0, 1, 1.5, 2]


def test_surface_is_drawn_with_what_was_varied(tuned):
    sizes = []
    for columns in ("", "pixel_threshold"):
        text = (tuned / "rule_surface.csv").read_text()
        if columns:
            text = "\n".join(line for line in text.splitlines() if not line.startswith("0.3"))
            (tuned / "rule_surface.csv").write_text(text + "\n")
        drawn = plots.rule_surface(tuned / "rule_surface.csv", tuned / "rule.json", tuned / "plots" / "surface.png")
        with Image.open(drawn) as image:
            sizes.append(image.size)
            assert np.asarray(image.convert("L")).std() > 5
    assert sizes[0][0] == 2 * sizes[1][0], "a plane and three settings, then two settings"
    (tuned / "rule_surface.csv").write_text(text.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="varies no setting"):
        plots.rule_surface(tuned / "rule_surface.csv", tuned / "rule.json", tuned / "surface.png")


def test_report_shows_the_tuned_rule(run, tuned):
    assert "#rule" not in html.write(run).read_text(encoding="utf-8")
    shutil.copy(tuned / "rule.json", run)
    plots.rule_surface(tuned / "rule_surface.csv", tuned / "rule.json", run / "plots" / "rule_surface.png")
    page = html.write(run).read_text(encoding="utf-8")
    for text in (
        "tuned by dice on the 1\N{NARROW NO-BREAK SPACE}234 images of the val split, best epoch, 7",
        "0.060 before",
    ):
        assert text in page
    section = page[page.index('id="rule"') : page.index('id="data"')]
    assert section.count("data:image/png") == 1
    assert "<th>image threshold</th><td>0.700</td>" in section
    assert 'id="curves"' not in page, "the surface is no learning curve"


def test_report_says_what_was_judged(run):
    assert "best epoch, 1; pixel threshold 0.3." in html.write(run).read_text(encoding="utf-8")
    (run / "metrics.csv").write_text(METRICS)
    assert "best epoch, 1 of 2; pixel threshold 0.3." in html.write(run).read_text(encoding="utf-8")
    (run / "evaluation.json").unlink()
    assert "Not evaluated yet: 2 finished epochs." in html.write(run).read_text(encoding="utf-8")


def test_report_is_self_contained_and_escaped(run):
    page = html.write(run).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert set(re.findall(r'(?:src|href)="([^"#:]*)[:"]', page)) <= {"data"}
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_report_hides_paths_and_names_what_is_missing(run):
    page = html.write(run).read_text(encoding="utf-8")
    assert "jane" not in page
    assert "…/tiles" in page
    assert "tile 3 is blank" in page
    assert "split.csv: which image" in page
    assert str(run.parent) not in page
    assert "environment.json" in page
    assert "metrics.csv" in page


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/home/jane roe/data.csv", "…/data.csv"),
        ("C:\\Users\\jane\\x.png", "…/x.png"),
        ("cannot read '/home/jane/a.png': truncated", "cannot read '…/a.png': truncated"),
        ("/home/jane roe/my data/4.png is gray", "…/4.png is gray"),
        ("The first is /home/jane roe/my data/4.png.", "The first is …/4.png."),
        ("'/home/jane roe/a.png' and \"C:\\jane roe\\b c.png\": 3/4", "'…/a.png' and \"…/b c.png\": 3/4"),
        ("'/home/jane o'roe/a.png' is gray", "'…/a.png' is gray"),
        ("root:/home/jane roe/tiles", "root:…/tiles"),
        ("root=~jane/roe x/tiles, file:///home/jane roe/b.png", "root=…/b.png"),
        ("a.png\nmask /home/jane roe/tiles/\nand/or", "a.png\nmask …/tiles/\nand/or"),
        ("on \\\\server\\jane roe\\tiles", "on …/tiles"),
        ("1 / 2 or and/or", "1 / 2 or and/or"),
        ("tiles/a.png and https://arxiv.org/abs/1 and 3/4", "tiles/a.png and https://arxiv.org/abs/1 and 3/4"),
    ],
)
def test_absolute_paths_are_cut(text, hidden):
    assert html.hide_paths(text) == hidden


def test_worst_cases_come_first():
    rows = [
        {"id": 1, "dice": 0.5},
        {"id": 2, "dice": 0.0, "false_positives": 1},
        {"id": 3, "dice": 0.0, "false_positives": 9},
    ]
    assert [row["id"] for row in html.worst_cases([*rows, {"id": 4, "dice": None}])] == [3, 2, 1, 4]


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no directory"):
        html.write(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="it is no run"):
        html.write(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json of the run .* cannot be read"):
        html.write(tmp_path)


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_heat_maps_show_what_there_is(tmp_path):
    """A column less without truths; sizes, classes and names as in a gallery."""
    rng = np.random.default_rng(0)
    rows = []
    for size in ((40, 64), (64, 20, 3)):
        heat = rng.random((*size[:2], 3))
        rows.append({"image": rng.random(size), "heat": heat, "mask": heat.argmax(-1), "id": "$x_$ <b>"})
    plain = pixels(plots.heat_maps(rows, tmp_path / "plain.png", class_names=["background", "crack", "fray"]))
    with_truth = [{**row, "truth": row["mask"]} for row in rows]
    full = pixels(plots.heat_maps(with_truth, tmp_path / "new" / "full.png", title="one"))
    assert full.shape[1] > plain.shape[1]
    assert full.std() > 20
    with pytest.raises(ValueError, match="`heat` and `mask` of a row must be alike in size"):
        plots.heat_maps([{**rows[0], "heat": np.zeros((4, 4))}], tmp_path / "never.png")


def test_tiles_are_drawn_in_a_grid(tmp_path):
    filters = np.stack([np.full((3, 3, 3), 0.0), np.full((3, 3, 3), 1.0), np.full((3, 3, 3), 0.5)])
    one, two = (pixels(plots.tiles(filters, tmp_path / f"{n}.png", columns=n)) for n in (3, 2))
    assert one.shape[1] > two.shape[1]
    assert one.shape[0] < two.shape[0]
    large = pixels(plots.tiles(255 * filters[..., 0], tmp_path / "gray.png", columns=3, title="a_b $"))
    assert {0, 255} <= set(np.unique(large))
    with pytest.raises(ValueError, match="`images` must be pictures"):
        plots.tiles([], tmp_path / "never.png")
