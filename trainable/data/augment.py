"""Augmentation: random shift, rotation, flip and erasing of training images, by torchvision.transforms.v2.

Every `GROUP` images of a batch share one draw: v2 transforms a whole tensor alike, and a call costs more than its
pixels do. Randomness is torch's global stream, which `train` seeds anew at every report.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rungwise.trainable.config import Config

GROUP = 8  # images


def augmentation(config: Config, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor] | None:
    """A function of raw images (B, C, H, W) uint8, of samples of `shape`; None when the config asks for nothing.

    What moves in from outside, and what is erased, is 0. Raises ValueError when the samples are no images.
    """
    if not config.augments:
        return None
    if len(shape) != 3:
        raise ValueError(f"augmentation needs images (C, H, W), but samples are {shape}")
    from torchvision.transforms import v2  # 1.7 s to import

    steps: list[torch.nn.Module] = []
    if config.flip:
        steps.append(v2.RandomHorizontalFlip(config.flip))
    if config.shift or config.rotation:
        share = (config.shift / shape[2], config.shift / shape[1])
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomAffine(config.rotation, translate=share, interpolation=bilinear))
    if config.erasing:
        steps.append(v2.RandomErasing(config.erasing, scale=(0.02, 0.2)))
    each = torch.nn.Sequential(*steps)
    return lambda x: torch.cat([each(part) for part in torch.split(x, GROUP)])
