"""Files of `keras.applications`, each the one that Keras loads for `include_top=False, weights="imagenet"`.

Addresses, hashes and image sizes are those of Keras 3.15.1 (`keras/src/applications`), which has no hashes for
MobileNet and MobileNetV2. Preprocessing is each family's `preprocess_input`, or the layers inside its model. Top-1 is
from the table of https://keras.io/api/applications, for MobileNetV3 from the docstring of its module; neither names
image sizes. Licences are those of the Keras 2 documentation (`docs/templates/applications.md`), which is older than the
families that have none.
"""

from collections.abc import Iterator
from typing import Any

from kerazoo.checkpoints.record import NOT_STATED, Record
from kerazoo.types import BY_128, CAFFE, MINUS_ONE_TO_ONE, TORCH, Preprocessing

IN21K_THEN_1K = ("ImageNet-21k", "ImageNet-1k")
FOLDER = "tensorflow/keras-applications"
TF = "_weights_tf_dim_ordering_tf_kernels_"
APACHE, BSD, CC_BY, MIT = "apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"


def _family(
    path: str, preprocessing: Preprocessing, licence: str, *rows: tuple[Any, ...], **facts: Any
) -> Iterator[Record]:
    """Records of rows: encoder, what fills `path`, digest, top-1 and, if it is not 224, image size."""
    for arch, key, digest, top1, *image_size in rows:
        url = f"https://storage.googleapis.com/{path.format(key)}"
        sizes = dict(zip(["image_size"], image_size, strict=False))
        published = {"digest": digest, "licence": licence, "top1": top1, "preprocessing": preprocessing}
        file = url.rpartition("/")[2]
        yield Record(name=f"{arch}.keras_in1k", origin="keras", url=url, file=file, **published, **sizes, **facts)


RECORDS = (
    *_family(
        f"{FOLDER}/{{0}}/{{0}}{TF}notop.h5",
        CAFFE,
        CC_BY,
        ("vgg16", "vgg16", "md5:6d6bbae143d832006294945121d1f1fc", 71.3),
        ("vgg19", "vgg19", "md5:253f8cb515780f3b799900260a226db6", 71.3),
    ),
    *_family(
        f"{FOLDER}/resnet/{{}}{TF}notop.h5",
        MINUS_ONE_TO_ONE,
        BSD,
        ("resnet50v2", "resnet50v2", "md5:fac2f116257151a9d068a22e544a4917", 76.0),
        ("resnet101v2", "resnet101v2", "md5:c0ed64b8031c3730f411d2eb4eea35b5", 77.2),
        ("resnet152v2", "resnet152v2", "md5:ed17cf2e0169df9d443503ef94b23b33", 78.0),
    ),
    *_family(
        f"{FOLDER}/densenet/{{}}{TF}notop.h5",
        TORCH,
        BSD,
        ("densenet121", "densenet121", "md5:30ee3e1110167f948a6b9946edeeb738", 75.0),
        ("densenet169", "densenet169", "md5:b8c4d4c20dd625c148057b9ff1c1176b", 76.2),
        ("densenet201", "densenet201", "md5:c13680b51ded0fb44dff2d8f86ac8bb1", 77.3),
    ),
    *_family(
        f"{FOLDER}/mobilenet/mobilenet_{{}}_224_tf_no_top.h5",
        MINUS_ONE_TO_ONE,
        APACHE,
        ("mobilenet", "1_0", None, 70.4),
        ("mobilenet_025", "2_5", None, None),
        ("mobilenet_050", "5_0", None, None),
        ("mobilenet_075", "7_5", None, None),
    ),
    *_family(
        f"{FOLDER}/mobilenet_v2/mobilenet_v2{TF}{{}}_224_no_top.h5",
        MINUS_ONE_TO_ONE,
        APACHE,
        ("mobilenetv2", "1.0", None, 71.3),
        ("mobilenetv2_035", "0.35", None, None),
        ("mobilenetv2_050", "0.5", None, None),
        ("mobilenetv2_075", "0.75", None, None),
        ("mobilenetv2_130", "1.3", None, None),
        ("mobilenetv2_140", "1.4", None, None),
    ),
    *_family(
        f"{FOLDER}/mobilenet_v3/weights_mobilenet_v3_{{}}_float_no_top_v2.h5",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        ("mobilenetv3_small", "small_224_1.0", "md5:d3e8ec802a04aa4fc771ee12a9a9b836", 68.1),
        ("mobilenetv3_small_075", "small_224_0.75", "md5:ebdb5cc8e0b497cd13a7c275d475c819", 65.4),
        ("mobilenetv3_small_minimalistic", "small_minimalistic_224_1.0", "md5:cde8136e733e811080d9fcd8a252f7e4", 61.9),
        ("mobilenetv3_large", "large_224_1.0", "md5:07fb09a5933dd0c8eaafa16978110389", 75.6),
        ("mobilenetv3_large_075", "large_224_0.75", "md5:40af19a13ebea4e2ee0c676887f69a2e", 73.3),
        ("mobilenetv3_large_minimalistic", "large_minimalistic_224_1.0", "md5:ec5221f64a2f6d1ef965a614bdae7973", 72.3),
    ),
    *_family(
        "keras-applications/{}_notop.h5",
        TORCH,
        NOT_STATED,
        ("efficientnetb0", "efficientnetb0", "md5:50bc09e76180e00e4465e1a485ddc09d", 77.1),
        ("efficientnetb1", "efficientnetb1", "md5:74c4e6b3e1f6a1eea24c589628592432", 79.1, 240),
        ("efficientnetb2", "efficientnetb2", "md5:111f8e2ac8aa800a7a99e3239f7bfb39", 80.1, 260),
        ("efficientnetb3", "efficientnetb3", "md5:af6d107764bb5b1abb91932881670226", 81.6, 300),
        ("efficientnetb4", "efficientnetb4", "md5:ebc24e6d6c33eaebbd558eafbeedf1ba", 82.9, 380),
        ("efficientnetb5", "efficientnetb5", "md5:38879255a25d3c92d5e44e04ae6cec6f", 83.6, 456),
        ("efficientnetb6", "efficientnetb6", "md5:9ecce42647a20130c1f39a5d4cb75743", 84.0, 528),
        ("efficientnetb7", "efficientnetb7", "md5:cbcfe4450ddf6f3ad90b1b398090fe4a", 84.3, 600),
    ),
    *_family(
        f"{FOLDER}/efficientnet_v2/efficientnetv2-{{}}_notop.h5",
        TORCH,
        NOT_STATED,
        ("efficientnetv2_b0", "b0", "md5:893217f2bb855e2983157299931e43ff", 78.7),
        ("efficientnetv2_b1", "b1", "md5:0e80663031ca32d657f9caa404b6ec37", 79.8, 240),
        ("efficientnetv2_b2", "b2", "md5:1dfe2e7a5d45b6632553a8961ea609eb", 80.5, 260),
        ("efficientnetv2_b3", "b3", "md5:f6abf7b5849ac99a89b50dd3fd532856", 82.0, 300),
    ),
    *_family(
        f"{FOLDER}/efficientnet_v2/efficientnetv2-{{}}_notop.h5",
        BY_128,
        NOT_STATED,
        ("efficientnetv2_s", "s", "md5:af0682fb74e8c54910f2d4393339c070", 83.9, 384),
        ("efficientnetv2_m", "m", "md5:1b8dc055df72dde80d614482840fe342", 85.3, 480),
        ("efficientnetv2_l", "l", "md5:b0b66b5c863aef5b46e8608fe1711615", 85.7, 480),
    ),
    *_family(
        f"{FOLDER}/convnext/convnext_{{}}_notop.h5",
        TORCH,
        NOT_STATED,
        ("convnext_tiny", "tiny", "sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1", 81.3),
        ("convnext_small", "small", "sha256:6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab", 82.3),
    ),
    *_family(
        f"{FOLDER}/convnext/convnext_{{}}_notop.h5",
        TORCH,
        NOT_STATED,
        ("convnext_base", "base", "sha256:40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45", 85.3),
        ("convnext_large", "large", "sha256:96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd", 86.3),
        ("convnext_xlarge", "xlarge", "sha256:de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05", 86.7),
        training_data=IN21K_THEN_1K,
    ),
    *_family(
        f"{FOLDER}/xception/{{}}{TF}notop.h5",
        MINUS_ONE_TO_ONE,
        MIT,
        ("xception", "xception", "md5:b0042744bf5b25fce3cb969f33bebb97", 79.0, 299),
    ),
    *_family(
        f"{FOLDER}/{{0}}/{{0}}{TF}notop.h5",
        MINUS_ONE_TO_ONE,
        APACHE,
        ("inceptionv3", "inception_v3", "md5:bcbd6486424b2319ff4ef7d526e38f63", 77.9, 299),
        ("inceptionresnetv2", "inception_resnet_v2", "md5:d19885ff4a710c122648d3b5c3b684e4", 80.3, 299),
    ),
)
