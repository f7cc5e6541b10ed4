"""Files of `keras.applications`, each the one that Keras loads for `include_top=False, weights="imagenet"`.

Addresses, hashes and image sizes are those of Keras 3.15.1 (`keras/src/applications`), which has no hashes for
MobileNet and MobileNetV2. Preprocessing is each family's `preprocess_input`, or the layers inside its model. Top-1 is
from the table of https://keras.io/api/applications, for MobileNetV3 from the docstring of its module; neither names
image sizes. Licences are those of the Keras 2 documentation (`docs/templates/applications.md`), which is older than the
families that have none.
"""

from typing import Any

from kerazoo.checkpoints.record import NOT_STATED, Record
from kerazoo.types import BY_128, CAFFE, MINUS_ONE_TO_ONE, TORCH, Preprocessing

IN21K_THEN_1K = ("ImageNet-21k", "ImageNet-1k")
BUCKET = "https://storage.googleapis.com"
FOLDER = "tensorflow/keras-applications"
TF = "_weights_tf_dim_ordering_tf_kernels_"
NOTOP = f"{TF}notop.h5"
V3, V3_END = "mobilenet_v3/weights_mobilenet_v3", "_float_no_top_v2.h5"
APACHE, BSD, CC_BY, MIT = "apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"


def _record(
    arch: str,
    path: str,
    digest: str | None,
    preprocessing: Preprocessing,
    licence: str,
    top1: float | None,
    image_size: int = 224,
    **facts: Any,
) -> Record:
    return Record(
        name=f"{arch}.keras_in1k",
        origin="keras",
        url=f"{BUCKET}/{path if path.startswith('keras-applications/') else f'{FOLDER}/{path}'}",
        file=path.rpartition("/")[2],
        digest=digest,
        licence=licence,
        preprocessing=preprocessing,
        top1=top1,
        image_size=image_size,
        **facts,
    )


RECORDS = (
    _record("vgg16", f"vgg16/vgg16{NOTOP}", "md5:6d6bbae143d832006294945121d1f1fc", CAFFE, CC_BY, 71.3),
    _record("vgg19", f"vgg19/vgg19{NOTOP}", "md5:253f8cb515780f3b799900260a226db6", CAFFE, CC_BY, 71.3),
    _record(
        "resnet50v2", f"resnet/resnet50v2{NOTOP}", "md5:fac2f116257151a9d068a22e544a4917", MINUS_ONE_TO_ONE, BSD, 76.0
    ),
    _record(
        "resnet101v2", f"resnet/resnet101v2{NOTOP}", "md5:c0ed64b8031c3730f411d2eb4eea35b5", MINUS_ONE_TO_ONE, BSD, 77.2
    ),
    _record(
        "resnet152v2", f"resnet/resnet152v2{NOTOP}", "md5:ed17cf2e0169df9d443503ef94b23b33", MINUS_ONE_TO_ONE, BSD, 78.0
    ),
    _record("densenet121", f"densenet/densenet121{NOTOP}", "md5:30ee3e1110167f948a6b9946edeeb738", TORCH, BSD, 75.0),
    _record("densenet169", f"densenet/densenet169{NOTOP}", "md5:b8c4d4c20dd625c148057b9ff1c1176b", TORCH, BSD, 76.2),
    _record("densenet201", f"densenet/densenet201{NOTOP}", "md5:c13680b51ded0fb44dff2d8f86ac8bb1", TORCH, BSD, 77.3),
    _record("mobilenet", "mobilenet/mobilenet_1_0_224_tf_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, 70.4),
    _record("mobilenet_025", "mobilenet/mobilenet_2_5_224_tf_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record("mobilenet_050", "mobilenet/mobilenet_5_0_224_tf_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record("mobilenet_075", "mobilenet/mobilenet_7_5_224_tf_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record("mobilenetv2", f"mobilenet_v2/mobilenet_v2{TF}1.0_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, 71.3),
    _record(
        "mobilenetv2_035", f"mobilenet_v2/mobilenet_v2{TF}0.35_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None
    ),
    _record("mobilenetv2_050", f"mobilenet_v2/mobilenet_v2{TF}0.5_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record(
        "mobilenetv2_075", f"mobilenet_v2/mobilenet_v2{TF}0.75_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None
    ),
    _record("mobilenetv2_130", f"mobilenet_v2/mobilenet_v2{TF}1.3_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record("mobilenetv2_140", f"mobilenet_v2/mobilenet_v2{TF}1.4_224_no_top.h5", None, MINUS_ONE_TO_ONE, APACHE, None),
    _record(
        "mobilenetv3_small",
        f"{V3}_small_224_1.0{V3_END}",
        "md5:d3e8ec802a04aa4fc771ee12a9a9b836",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        68.1,
    ),
    _record(
        "mobilenetv3_small_075",
        f"{V3}_small_224_0.75{V3_END}",
        "md5:ebdb5cc8e0b497cd13a7c275d475c819",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        65.4,
    ),
    _record(
        "mobilenetv3_small_minimalistic",
        f"{V3}_small_minimalistic_224_1.0{V3_END}",
        "md5:cde8136e733e811080d9fcd8a252f7e4",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        61.9,
    ),
    _record(
        "mobilenetv3_large",
        f"{V3}_large_224_1.0{V3_END}",
        "md5:07fb09a5933dd0c8eaafa16978110389",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        75.6,
    ),
    _record(
        "mobilenetv3_large_075",
        f"{V3}_large_224_0.75{V3_END}",
        "md5:40af19a13ebea4e2ee0c676887f69a2e",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        73.3,
    ),
    _record(
        "mobilenetv3_large_minimalistic",
        f"{V3}_large_minimalistic_224_1.0{V3_END}",
        "md5:ec5221f64a2f6d1ef965a614bdae7973",
        MINUS_ONE_TO_ONE,
        NOT_STATED,
        72.3,
    ),
    _record(
        "efficientnetb0",
        "keras-applications/efficientnetb0_notop.h5",
        "md5:50bc09e76180e00e4465e1a485ddc09d",
        TORCH,
        NOT_STATED,
        77.1,
    ),
    _record(
        "efficientnetb1",
        "keras-applications/efficientnetb1_notop.h5",
        "md5:74c4e6b3e1f6a1eea24c589628592432",
        TORCH,
        NOT_STATED,
        79.1,
        240,
    ),
    _record(
        "efficientnetb2",
        "keras-applications/efficientnetb2_notop.h5",
        "md5:111f8e2ac8aa800a7a99e3239f7bfb39",
        TORCH,
        NOT_STATED,
        80.1,
        260,
    ),
    _record(
        "efficientnetb3",
        "keras-applications/efficientnetb3_notop.h5",
        "md5:af6d107764bb5b1abb91932881670226",
        TORCH,
        NOT_STATED,
        81.6,
        300,
    ),
    _record(
        "efficientnetb4",
        "keras-applications/efficientnetb4_notop.h5",
        "md5:ebc24e6d6c33eaebbd558eafbeedf1ba",
        TORCH,
        NOT_STATED,
        82.9,
        380,
    ),
    _record(
        "efficientnetb5",
        "keras-applications/efficientnetb5_notop.h5",
        "md5:38879255a25d3c92d5e44e04ae6cec6f",
        TORCH,
        NOT_STATED,
        83.6,
        456,
    ),
    _record(
        "efficientnetb6",
        "keras-applications/efficientnetb6_notop.h5",
        "md5:9ecce42647a20130c1f39a5d4cb75743",
        TORCH,
        NOT_STATED,
        84.0,
        528,
    ),
    _record(
        "efficientnetb7",
        "keras-applications/efficientnetb7_notop.h5",
        "md5:cbcfe4450ddf6f3ad90b1b398090fe4a",
        TORCH,
        NOT_STATED,
        84.3,
        600,
    ),
    _record(
        "efficientnetv2_b0",
        "efficientnet_v2/efficientnetv2-b0_notop.h5",
        "md5:893217f2bb855e2983157299931e43ff",
        TORCH,
        NOT_STATED,
        78.7,
    ),
    _record(
        "efficientnetv2_b1",
        "efficientnet_v2/efficientnetv2-b1_notop.h5",
        "md5:0e80663031ca32d657f9caa404b6ec37",
        TORCH,
        NOT_STATED,
        79.8,
        240,
    ),
    _record(
        "efficientnetv2_b2",
        "efficientnet_v2/efficientnetv2-b2_notop.h5",
        "md5:1dfe2e7a5d45b6632553a8961ea609eb",
        TORCH,
        NOT_STATED,
        80.5,
        260,
    ),
    _record(
        "efficientnetv2_b3",
        "efficientnet_v2/efficientnetv2-b3_notop.h5",
        "md5:f6abf7b5849ac99a89b50dd3fd532856",
        TORCH,
        NOT_STATED,
        82.0,
        300,
    ),
    _record(
        "efficientnetv2_s",
        "efficientnet_v2/efficientnetv2-s_notop.h5",
        "md5:af0682fb74e8c54910f2d4393339c070",
        BY_128,
        NOT_STATED,
        83.9,
        384,
    ),
    _record(
        "efficientnetv2_m",
        "efficientnet_v2/efficientnetv2-m_notop.h5",
        "md5:1b8dc055df72dde80d614482840fe342",
        BY_128,
        NOT_STATED,
        85.3,
        480,
    ),
    _record(
        "efficientnetv2_l",
        "efficientnet_v2/efficientnetv2-l_notop.h5",
        "md5:b0b66b5c863aef5b46e8608fe1711615",
        BY_128,
        NOT_STATED,
        85.7,
        480,
    ),
    _record(
        "convnext_tiny",
        "convnext/convnext_tiny_notop.h5",
        "sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        TORCH,
        NOT_STATED,
        81.3,
    ),
    _record(
        "convnext_small",
        "convnext/convnext_small_notop.h5",
        "sha256:6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        TORCH,
        NOT_STATED,
        82.3,
    ),
    _record(
        "convnext_base",
        "convnext/convnext_base_notop.h5",
        "sha256:40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        TORCH,
        NOT_STATED,
        85.3,
        training_data=IN21K_THEN_1K,
    ),
    _record(
        "convnext_large",
        "convnext/convnext_large_notop.h5",
        "sha256:96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        TORCH,
        NOT_STATED,
        86.3,
        training_data=IN21K_THEN_1K,
    ),
    _record(
        "convnext_xlarge",
        "convnext/convnext_xlarge_notop.h5",
        "sha256:de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        TORCH,
        NOT_STATED,
        86.7,
        training_data=IN21K_THEN_1K,
    ),
    _record(
        "xception",
        f"xception/xception{NOTOP}",
        "md5:b0042744bf5b25fce3cb969f33bebb97",
        MINUS_ONE_TO_ONE,
        MIT,
        79.0,
        299,
    ),
    _record(
        "inceptionv3",
        f"inception_v3/inception_v3{NOTOP}",
        "md5:bcbd6486424b2319ff4ef7d526e38f63",
        MINUS_ONE_TO_ONE,
        APACHE,
        77.9,
        299,
    ),
    _record(
        "inceptionresnetv2",
        f"inception_resnet_v2/inception_resnet_v2{NOTOP}",
        "md5:d19885ff4a710c122648d3b5c3b684e4",
        MINUS_ONE_TO_ONE,
        APACHE,
        80.3,
        299,
    ),
)
