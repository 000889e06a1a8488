"""Batches of images as vectors."""

from typing import Any

from torch import Tensor

from dbp.errors import UserError


def flattened(batch: Any, shape: tuple[int, ...]) -> Tensor:
    """The images of a batch, with or without labels, `[B, *shape] -> [B, pixels]`.

    Raises:
        UserError: they have a different shape.
    """
    images: Tensor = batch[0] if isinstance(batch, list | tuple) else batch
    if images.shape[1:] != shape:
        raise UserError(
            f"the images are {list(images.shape[1:])}, the model was made for {list(shape)}: "
            f"set task.shape=[{','.join(map(str, images.shape[1:]))}]"
        )
    return images.flatten(1)
