"""Matplotlib figures of a model's output, for TensorBoard and for files."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reconstructions(images: Tensor, codes: Tensor, reconstructions: Tensor, count: int = 10) -> "Figure":
    """Originals, codes and reconstructions, one column for each example.

    Args:
        images: `[B, height, width]` in [0, 1].
        codes: `[B, rows, columns]` in [0, 1].
        reconstructions: `[B, height, width]` in [0, 1].
        count: how many examples are shown.
    """
    from matplotlib.figure import Figure

    rows = {"original": images, "code": codes, "reconstruction": reconstructions}
    count = min(count, len(images))
    figure = Figure(figsize=(1.0 * count + 0.9, 3.3), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, tensors) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, tensors[:count].float().numpy(force=True), strict=True):
            axis.imshow(picture, cmap="Blues" if name == "code" else "gray_r", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("0.8")
        line[0].set_ylabel(name, fontsize=9)
    return figure


def image_grid(images: Tensor, columns: int = 10) -> "Figure":
    """Images side by side, in rows.

    Args:
        images: `[count, height, width]` in [0, 1].
        columns: images in a row.
    """
    from matplotlib.figure import Figure

    height, width = images.shape[1:]
    rows = -(-len(images) // columns)
    page = images.new_full((rows * columns, height + 2, width + 2), 0.2)  # a thin frame around each image
    page[: len(images), 1:-1, 1:-1] = images
    page = page.unflatten(0, (rows, columns)).transpose(1, 2).flatten(2).flatten(0, 1)
    figure = Figure(figsize=(columns, columns * page.shape[0] / page.shape[1]), layout="constrained")
    axis = figure.subplots()
    axis.imshow(page.float().numpy(force=True), cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()
    return figure


def sequences(ordered: Tensor, count: int = 10) -> "Figure":
    """Sequences in the predicted order, as bars; a bar that is higher than the next one is red.

    Args:
        ordered: `[B, length]`.
        count: how many sequences are shown.
    """
    from matplotlib.figure import Figure

    shown = ordered[:count].float().numpy(force=True)
    figure = Figure(figsize=(1.0 * len(shown) + 0.2, 1.3), layout="constrained")
    for axis, values in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        wrong = [later < earlier for earlier, later in zip(values, [*values[1:], values[-1]], strict=True)]
        axis.bar(range(len(values)), values, 0.85, color=["tab:red" if w else "tab:blue" for w in wrong])
        axis.set(xticks=[], yticks=[], ylim=(0, 1.02))
        axis.spines[:].set_visible(False)
    return figure
