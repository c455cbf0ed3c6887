"""Each run in mlflow, Weights & Biases or TensorBoard: one collector of events, a small interface, three stores.

``collector`` turns Kedro's events into the words of ``tracker``; ``outbox`` says them to a store and keeps aside
what the store does not take; ``mlflow_store``, ``wandb_store`` and ``tensorboard_files`` are the stores.
"""

from __future__ import annotations

from seg_pipeline.hooks.tracking.tracking_hooks import TrackingHooks

__all__ = ["TrackingHooks"]
