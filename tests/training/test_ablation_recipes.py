"""Every row of tables 8.2 to 8.5 is one call of `segmenter`, and one recipe; parameters are counted by hand.

Weights and moving statistics all count: a batch norm of C channels has 4 C. Biases are written out.
"""

import pytest
from support.source_tree import REPOSITORY
from support.tiers import thorough

import kerazoo as kz
from kerazoo.training import parts
from kerazoo.training.recipe import Recipe

RECIPES = REPOSITORY / "recipes"

# ResNet-50, bottlenecks of width w and output 4w. Convolutions have no bias.
#   stem     49 x 3 x 64 = 9,408, batch norm 256                                                    9,664
#   stage 1  first block 64 x 64 + 9 x 64 x 64 + 64 x 256 + shortcut 64 x 256 = 73,728;
#            two more of 256 x 64 + 36,864 + 64 x 256 = 69,632;
#            batch norms 4 x (3 x (64 + 64 + 256) + 256) = 5,632                                  218,624
#   stage 2  first 256 x 128 + 9 x 128 x 128 + 128 x 512 + 256 x 512 = 376,832;
#            three of 512 x 128 + 147,456 + 128 x 512 = 278,528;
#            batch norms 4 x (4 x (128 + 128 + 512) + 512) = 14,336                             1,226,752
#   stage 3  first 512 x 256 + 9 x 256 x 256 + 256 x 1,024 + 512 x 1,024 = 1,507,328;
#            five of 1,024 x 256 + 589,824 + 256 x 1,024 = 1,114,112;
#            batch norms 4 x (6 x (256 + 256 + 1,024) + 1,024) = 40,960                         7,118,848
#   stage 4  first 1,024 x 512 + 9 x 512 x 512 + 512 x 2,048 + 1,024 x 2,048 = 6,029,312;
#            two of 2,048 x 512 + 2,359,296 + 512 x 2,048 = 4,456,448;
#            batch norms 4 x (3 x (512 + 512 + 2,048) + 2,048) = 45,056                        14,987,264
RESNET50 = 23_561_152

# U-Net with sum skips: at each step both inputs are projected by 1x1 convolutions to the width w, then two 3x3
# convolutions with batch norm, 2 x (9 w w + 4 w); projections (coarse + skip) x w.
#   stride 16  (2,048 + 1,024) x 256 + 2 x (589,824 + 1,024)                                      1,968,128
#   stride 8   (256 + 512) x 128 + 2 x (147,456 + 512)                                              394,240
#   stride 4   (128 + 256) x 64 + 2 x (36,864 + 256)                                                 98,816
#   stride 2   (64 + 64) x 32 + 2 x (9,216 + 128)                                                    22,784
#   stride 1   no skip, nothing to project: 9 x 32 x 16 + 64 + 9 x 16 x 16 + 64                       7,040
UNET = 2_491_008

# FaPN of width 256 over C = 256, 512, 1,024 and 2,048 channels.
#   stride 32            2,048 x 256 + 256                                                          524,544
#   each finer level     selection: gate C x C, projection C x 256;
#                        difference 512 x 256 = 131,072; offsets 9 x 256 x 144 + 144 = 331,920;
#                        modulation 9 x 256 x 72 + 72 = 165,960; deformable convolution
#                        9 x 256 x 256 + 256 = 590,080; the last convolution of the level 590,080: 1,809,112
#   stride 16            1,024 x 1,024 + 1,024 x 256 + 1,809,112                                  3,119,832
#   stride 8             512 x 512 + 512 x 256 + 1,809,112                                        2,202,328
#   stride 4             256 x 256 + 256 x 256 + 1,809,112                                        1,940,184
FAPN = 7_786_888
FAPN_FINEST = 6_606_728  # under a head that reads the finest level alone, without the last convolutions of the others

# EfficientNet-B2 (B0 scaled by 1.1 in width and 1.2 in depth) without its top. A block with expanded width e = 6 in
# (1 in at stage 1), kernel k and SE bottleneck s = in / 4 has in x e + 4 e (not at stage 1), k k e + 4 e,
# 2 e s + s + e, and e x out + 4 out. First block of a stage, then each of the others:
#   stem     27 x 32 + 128                                                                              992
#   stage 1  k 3, 32 to 16:     1,544 +     676                                                       2,220
#   stage 2  k 3, 16 to 24:     6,436 + 2 x 11,334                                                   29,104
#   stage 3  k 5, 24 to 48:    17,190 + 2 x 44,556                                                  106,302
#   stage 4  k 3, 48 to 88:    51,628 + 3 x 126,038                                                 429,742
#   stage 5  k 5, 88 to 120:  151,510 + 3 x 240,990                                                 874,480
#   stage 6  k 5, 120 to 208: 304,702 + 4 x 692,276                                               3,073,806
#   stage 7  k 3, 208 to 352: 852,596 + 1,898,072                                                 2,750,668
# For example stage 2's first: 16 x 96 + 384 + 864 + 384 + 2 x 96 x 4 + 4 + 96 + 96 x 24 + 96 = 6,436.
EFFICIENTNET_B2 = 7_267_314

# BiFPN of EfficientDet-D2: width 112, five blocks over P3 to P7; P3, P4, P5 come with 48, 120 and 352 channels.
#   P6       352 x 112 + 448                                                                         39,872
#   node     depthwise 9 x 112 = 1,008, pointwise 112 x 112 = 12,544, batch norm 448: 14,000
#   block    8 nodes, edge weights: 2 for each of 4 nodes on the way down; on the way up 3, 3, 3, 2:
#            8 x 14,000 + 8 + 11 = 112,019; five of them                                            560,095
#   block 1  projects P3 once, P4 and P5 for two nodes each: (48 + 2 x 120 + 2 x 352) x 112 + 5 x 448    113,344
BIFPN_D2 = 713_311
BIFPN_D2_FINEST = 657_300  # the same without the last block's way up: 4 nodes with 11 edge weights, 56,011

# Heads of width 64. SE of 64 channels: 64 x 4 + 4 + 4 x 64 + 64 = 580. F: three of 9 x 64 x 64 + 256 = 37,120.
COLUMNS_UNET = 31_744  # (256 + 128 + 64 + 32 + 16) x 64, without bias
COLUMNS_FAPN = 65_536  # 4 x 256 x 64
COLUMNS_D2 = 35_840  # 5 x 112 x 64
CONVOLUTIONS, ATTENTION = 111_360, 580
LOGIT, LOGITS3 = 65, 195  # 64 + 1, and 3 x that

D2 = kz.pairs.create("efficientdet_d2")
CE = {"cross_entropy": 1.0}
PROPOSED = {"cross_entropy": 1.0, "foreground_dice": 0.1}
MLF = kz.heads.MLF
R50_UNET = RESNET50 + UNET

# recipe: (encoder, decoder, head, num_classes), loss, parameters
ROWS = {
    # tables 8.1 and 8.2
    "siim_resnet50_unet_random": (("resnet50", "unet", "linear", 1), CE, R50_UNET + 17),
    "siim_resnet50_unet_over": (("resnet50", "unet", "linear", 1), CE, R50_UNET + 17),
    "siim_resnet50_unet": (("resnet50", "unet", "linear", 1), CE, R50_UNET + 17),
    "siim_resnet50_unet_focal": (("resnet50", "unet", "linear", 1), {"focal": 1.0}, R50_UNET + 17),
    "siim_resnet50_unet_hypercolumn": (
        ("resnet50", "unet", "hypercolumn", 1),
        CE,
        R50_UNET + COLUMNS_UNET + LOGIT,
    ),
    # table 8.5 between the hypercolumn and the whole block
    "siim_resnet50_unet_mlf_convolutions": (
        ("resnet50", "unet", MLF(before=False, after=False), 1),
        PROPOSED,
        R50_UNET + COLUMNS_UNET + CONVOLUTIONS + LOGIT,
    ),
    "siim_resnet50_unet_mlf_before": (
        ("resnet50", "unet", MLF(after=False), 1),
        PROPOSED,
        R50_UNET + COLUMNS_UNET + ATTENTION + CONVOLUTIONS + LOGIT,
    ),
    "siim_resnet50_unet_mlf": (
        ("resnet50", "unet", "mlf", 1),
        PROPOSED,
        R50_UNET + COLUMNS_UNET + 2 * ATTENTION + CONVOLUTIONS + LOGIT,
    ),
    # table 8.3: background, bicycle, car
    "bikecar_resnet50_unet": (("resnet50", "unet", "linear", 3), CE, R50_UNET + 51),
    "bikecar_resnet50_unet_hypercolumn": (
        ("resnet50", "unet", "hypercolumn", 3),
        CE,
        R50_UNET + COLUMNS_UNET + LOGITS3,
    ),
    "bikecar_resnet50_unet_mlf": (
        ("resnet50", "unet", "mlf", 3),
        PROPOSED,
        R50_UNET + COLUMNS_UNET + 2 * ATTENTION + CONVOLUTIONS + LOGITS3,
    ),
    # table 8.4
    "siim_efficientdet_d2": ((*D2, "linear", 1), CE, EFFICIENTNET_B2 + BIFPN_D2_FINEST + 113),
    "siim_efficientdet_d2_mlf": (
        (*D2, "mlf", 1),
        PROPOSED,
        EFFICIENTNET_B2 + BIFPN_D2 + COLUMNS_D2 + 2 * ATTENTION + CONVOLUTIONS + LOGIT,
    ),
    "siim_resnet50_fapn": (("resnet50", "fapn", "linear", 1), CE, RESNET50 + FAPN_FINEST + 257),
    "siim_resnet50_fapn_mlf": (
        ("resnet50", "fapn", "mlf", 1),
        PROPOSED,
        RESNET50 + FAPN + COLUMNS_FAPN + 2 * ATTENTION + CONVOLUTIONS + LOGIT,
    ),
}
SAMPLERS = {"siim_resnet50_unet_random": "natural", "siim_resnet50_unet_over": "over"}
BUILT_ONCE = {"siim_resnet50_unet_random", "siim_resnet50_unet_over", "siim_resnet50_unet_focal"}
"""Rows that differ from another one only in loss or sampler."""
SLOW = {"bikecar_resnet50_unet", "bikecar_resnet50_unet_hypercolumn", "siim_efficientdet_d2", "siim_resnet50_fapn"}
"""Rows whose encoder, decoder and head are in other rows too."""


def rows_to_build():
    for name in ROWS:
        if name not in BUILT_ONCE:
            yield pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))


def resolved(kind, part):
    """A name as the part that it stands for."""
    registry = {"encoder": kz.encoders.ENCODERS, "decoder": kz.decoders.DECODERS, "head": kz.heads.HEADS}[kind]
    if not isinstance(part, str):
        return part
    return registry[part] if kind == "encoder" else registry.create(part)


@thorough
@pytest.mark.parametrize("name", [*rows_to_build()])
def test_a_row_has_the_parameters_that_it_should(name):
    (*arguments, num_classes), _, expected = ROWS[name]
    assert kz.segmenter(*arguments, num_classes=num_classes).count_params() == expected


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_a_recipe(name):
    """The parts, classes, losses and sampler of the recipe are the row's; the rest is section 7.3."""
    recipe = Recipe.load(RECIPES / f"{name}.yaml")
    (*arguments, num_classes), losses, _ = ROWS[name]
    for kind, wanted in zip(("encoder", "decoder", "head"), arguments, strict=True):
        assert parts.create(f"{kind}s", getattr(recipe.model, kind)) == resolved(kind, wanted)
    classes = recipe.data.source.options.get("classes")
    assert num_classes == (1 if classes is None else 1 + len(classes))
    assert {term.name: term.weight for term in recipe.loss} == losses
    assert recipe.model.weights == "imagenet"
    assert recipe.data.image_size == (512, 512)
    training = recipe.training
    assert (training.batch_size, training.precision) == (16, "mixed_float16")
    assert training.epochs == (37 if name.startswith("bikecar") else 30)
    assert training.sampler == SAMPLERS.get(name, "under")
    assert [part.name for part in training.augment] == ["flip"]
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.options) == ("radam", 1e-3, {"weight_decay": 1e-4})
    assert (optimizer.schedule.name, optimizer.schedule.final) == ("cosine", 1e-6)


def test_no_recipe_of_the_tables_is_forgotten():
    on_disk = {path.stem for prefix in ("siim", "bikecar") for path in RECIPES.glob(f"{prefix}_*.yaml")}
    assert on_disk == set(ROWS)


@thorough
def test_two_stages_are_one_call_too():
    """Tables 8.2 and 8.3, first rows: a classifier of 256 x 256 images before the plain U-Net.

    The classifier adds 2,048 + 1 to the encoder, for three classes 3 x that. The segmenter is trained on foreground
    images only, or on all: that is a row of the table, and no other model.
    """
    stages = kz.classifier("resnet50", num_classes=1), kz.segmenter("resnet50", "unet", "linear", num_classes=1)
    model = kz.inference.TwoStage(*stages, classifier_size=(256, 256))
    assert model.count_params() == (RESNET50 + 2_049) + (R50_UNET + 17)
    assert kz.classifier("resnet50", num_classes=3).count_params() == RESNET50 + 3 * 2_049
