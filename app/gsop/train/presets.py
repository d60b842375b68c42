"""The recipes that come with the project."""

from collections.abc import Mapping

from gsop.images import InputSpec
from gsop.model.config import GSoPResNetConfig
from gsop.train.data.drawing import DrawingSpec
from gsop.train.data.spec import AugmentSpec, DataSpec, RandAugmentSpec, RandomCropSpec
from gsop.train.recipe import OptimizerSpec, Recipe, Schedule

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DIGITS = Recipe(
    name="digits",
    config=GSoPResNetConfig(
        depth=18, stem="cifar", base_width=16, reduced_dim=16, num_classes=10, last_stride=2
    ),
    input=InputSpec(height=32, width=32, resize=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    data=DataSpec(kind="digits"),
    augment=AugmentSpec(drawing=DrawingSpec()),
    batch_size=64,
    optimizer=OptimizerSpec(kind="adamw", learning_rate=5e-3, weight_decay=0.05),
    schedule=Schedule(steps=1000, warmup=100, validate_every=250),
    label_smoothing=0.1,
    ema_decay=0.995,
)
"""The default model: minutes on two cores."""

SMALL = Recipe(
    name="small",
    config=GSoPResNetConfig(depth=18, base_width=32, reduced_dim=32, last_stride=2),
    input=InputSpec(height=96, width=96, resize=112, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    data=DataSpec(kind="folder"),
    augment=AugmentSpec(random_crop=RandomCropSpec(scale=(0.35, 1.0)), flip=True),
    batch_size=32,
    optimizer=OptimizerSpec(kind="adamw", learning_rate=2e-3, weight_decay=0.05),
    schedule=Schedule(epochs=30, warmup=1),
    label_smoothing=0.1,
    ema_decay=0.99,
)
"""Photographs from scratch where there is neither a GPU nor a trained backbone."""

FINETUNE = Recipe(
    name="finetune",
    config=GSoPResNetConfig(depth=50, last_stride=2),
    input=InputSpec(height=224, width=224, resize=256, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    data=DataSpec(kind="folder"),
    augment=AugmentSpec(
        random_crop=RandomCropSpec(scale=(0.25, 1.0)),
        flip=True,
        rand_augment=RandAugmentSpec(operations=2, magnitude=7),
    ),
    backbone="torchvision",
    batch_size=64,
    optimizer=OptimizerSpec(
        kind="adamw", learning_rate=1e-3, weight_decay=0.05, backbone_scale=0.1, clip=1.0
    ),
    schedule=Schedule(epochs=15, warmup=1, gate_warmup=3),
    label_smoothing=0.1,
    ema_decay=0.999,
)
"""Photographs on a ResNet-50 that torchvision trained on ImageNet: the usual choice."""

CIFAR100 = Recipe(
    name="cifar100",
    config=GSoPResNetConfig(depth=164, stem="cifar", num_classes=100, last_stride=2),
    input=InputSpec(
        height=32, width=32, resize=32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)
    ),
    data=DataSpec(kind="cifar100"),
    augment=AugmentSpec(pad_crop=4, flip=True),
    batch_size=128,
    optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1, weight_decay=5e-4, decay_all=True),
    schedule=Schedule(epochs=200, warmup=1, decay="milestones", milestones=(100, 150)),
)
"""CIFAR-100 on the pre-activation ResNet-164 that the paper gates. The paper gives no schedule for
it; this is the usual one of such networks."""

IMAGENET_NET1 = Recipe(
    name="imagenet-net1",
    config=GSoPResNetConfig(depth=50),
    input=FINETUNE.input,
    data=FINETUNE.data,
    augment=AugmentSpec(random_crop=RandomCropSpec(scale=(0.08, 1.0)), flip=True),
    batch_size=256,
    optimizer=OptimizerSpec(kind="sgd", learning_rate=0.1, weight_decay=1e-4, decay_all=True),
    schedule=Schedule(epochs=95, decay="milestones", milestones=(30, 60, 90)),
    sync_batch_norm=False,
)
"""GSoP-Net1 as published: 22.02 % top-1 error on ImageNet, with ResNet-50."""

IMAGENET_NET2 = IMAGENET_NET1.model_copy(
    update={
        "name": "imagenet-net2",
        "config": GSoPResNetConfig(depth=50, head="isqrt"),
        "schedule": Schedule(epochs=65, decay="milestones", milestones=(30, 45, 60)),
    }
)
"""GSoP-Net2 as published: 21.19 % top-1 error on ImageNet, with ResNet-50."""

COMPARE_TEXTURES = Recipe(
    name="compare-textures",
    config=GSoPResNetConfig(depth=18, base_width=8, reduced_dim=16, num_classes=16, head_dim=32),
    input=InputSpec(height=64, width=64, resize=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    data=DataSpec(kind="textures"),
    augment=AugmentSpec(),
    batch_size=64,
    optimizer=OptimizerSpec(kind="adamw", learning_rate=1e-2, weight_decay=0.05),
    schedule=Schedule(steps=250, warmup=25, validate_every=0),
    label_smoothing=0.1,
    ema_decay=0.98,
)
"""For ``gsop compare``: a network so small that one core trains it in half a minute."""

COMPARE_DIGITS = COMPARE_TEXTURES.model_copy(
    update={"name": "compare-digits", "data": DIGITS.data, "augment": DIGITS.augment}
)
"""The same network and schedule on the digits."""

PRESETS: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        DIGITS,
        SMALL,
        FINETUNE,
        CIFAR100,
        IMAGENET_NET1,
        IMAGENET_NET2,
        COMPARE_TEXTURES,
        COMPARE_DIGITS,
    )
}
"""The recipes by name."""
