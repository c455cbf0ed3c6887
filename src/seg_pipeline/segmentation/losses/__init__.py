"""Losses: weighted sums of terms, each of which maps logits and ground truth to one number.

Axes: B images, K channels of the logits, C classes, H rows, W columns. Logits are float (B, K, H, W) of any
precision; sums are taken in float32, because bfloat16's 8 bits cannot hold a sum over a million pixels. The ground
truth is uint8: for ``multilabel`` (B, C, H, W) of 0, 1 and ``IGNORE``; for ``multiclass`` (B, H, W), the channel of
each pixel or ``IGNORE``. Ignored pixels have no effect; the loss of a batch of ignored pixels is 0.

Every term except Lovász is a ratio of sums over pixels. In distributed training these sums are global: each rank
computes the loss of the global batch, and the mean of the ranks' gradients is exactly the gradient of a single
process with the whole batch. A ratio of local sums would not be, because ranks hold different numbers of pixels per
class. A call is therefore a collective operation: every rank must make the same number of calls.
"""

from seg_pipeline.segmentation.losses.compose import Loss, default_terms, make_loss
from seg_pipeline.segmentation.losses.weights import balanced_weights

__all__ = ["Loss", "balanced_weights", "default_terms", "make_loss"]
