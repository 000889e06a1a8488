"""Pictures: matplotlib figures of what a model does, for TensorBoard and for files."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reconstructions(images: Tensor, codes: Tensor, reconstructions: Tensor, count: int = 10) -> "Figure":
    """Originals, their codes and their reconstructions, one column an example.

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
