"""What an input may be."""

import pytest
from pydantic import ValidationError

from gsop.images import InputSpec
from tests.imagery import input_spec


def test_a_crop_larger_than_the_scaled_image_is_no_spec() -> None:
    with pytest.raises(ValidationError, match="smaller than the crop"):
        input_spec(224, 224, 200)


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(ValidationError, match="every std must be positive"):
        InputSpec(height=1, width=1, resize=1, mean=(0, 0, 0), std=(1, 0, 1))
