"""Experiment tracking in mlflow, Weights & Biases or TensorBoard.

``tracking_hooks`` listens to Kedro and passes what is worth tracking to ``recorder``. One ``outbox`` per store
makes the calls of the ``Tracker`` interface and keeps those that fail. ``mlflow_store``, ``wandb_store`` and
``tensorboard_files`` implement the interface.
"""

from seg_pipeline.hooks.tracking.tracking_hooks import TrackingHooks

__all__ = ["TrackingHooks"]
