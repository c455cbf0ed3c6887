"""Images as OpenCV expects them."""

import cv2
import numpy as np
import torch
from torch import Tensor


def to_picture(image: Tensor) -> np.ndarray:
    """Convert (K, H, W) to (H, W, K), without a copy if the memory is channels-last."""
    last = image.permute(1, 2, 0)
    # copying with NumPy would take ten times as long
    return last.numpy() if last.is_contiguous() else np.atleast_3d(cv2.merge(list(image.numpy())))


def to_image(picture: np.ndarray) -> Tensor:
    """Convert (H, W, K) to (K, H, W), a view: channels-last in memory."""
    return torch.from_numpy(picture).permute(2, 0, 1)
