"""From a recipe's words to its data set."""

from gsop.errors import ConfigError
from gsop.images import InputSpec
from gsop.train.data.cifar import Cifar100
from gsop.train.data.dataset import DataSet
from gsop.train.data.digits import Digits
from gsop.train.data.drawing import DrawingSpec
from gsop.train.data.folder import FolderData
from gsop.train.data.spec import AugmentSpec, DataSpec
from gsop.train.data.textures import Textures


def open_data(data: DataSpec, input: InputSpec, augment: AugmentSpec) -> DataSet:
    """The data set that ``data`` names.

    Args:
        data: which images.
        input: the network's input.
        augment: how training images are varied.

    Raises:
        ConfigError: if the images are not at hand, or cannot be varied so.
    """
    if data.kind == "digits":
        if input.height != input.width:
            raise ConfigError("the digits are square: set input.height and input.width alike")
        return Digits(input.height, augment.drawing or DrawingSpec())
    if augment.drawing is not None:
        raise ConfigError("only the digits can be drawn: set augment.drawing to null")
    if data.kind == "folder":
        return FolderData(data, input, augment)
    if data.kind == "cifar100":
        return Cifar100(data, input, augment)
    if augment != AugmentSpec():
        raise ConfigError(
            "textures are not augmented, for a flip or a scale makes one class of another: leave "
            "all of augment out"
        )
    return Textures(input.height, input.width, data.split_seed)
