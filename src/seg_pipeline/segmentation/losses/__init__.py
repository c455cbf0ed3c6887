"""Losses: weighted sums of terms, each a function of logits and truth with one number as result.

Axes: B images, K channels of the logits, C classes, H rows, W columns; 1 marks a kept axis. Logits are float
(B, K, H, W) of any precision; sums run in float32, as a sum over 1e6 pixels is beyond bfloat16's 8 bits.
Truth is uint8: for ``multilabel`` (B, C, H, W) of 0, 1 and ``IGNORE``, for ``multiclass`` (B, H, W), the channel
that each pixel belongs to or ``IGNORE``. What is ignored counts nowhere; a batch without anything known costs 0.

Every term but Lovász is a ratio of sums over pixels. Where several processes train, the sums go over all of
them: each rank has the loss of the global batch, and the mean of the ranks' gradients is exactly that of one
process with the whole batch. So a call is a collective: every rank makes the same number of calls.
"""

from seg_pipeline.segmentation.losses.compose import Loss, default_terms, make_loss
from seg_pipeline.segmentation.losses.weights import balanced_weights

__all__ = ["Loss", "balanced_weights", "default_terms", "make_loss"]
