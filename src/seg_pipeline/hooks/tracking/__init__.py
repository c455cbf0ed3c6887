"""Experiment tracking in mlflow, Weights & Biases or TensorBoard.

``tracking_hooks`` listens to Kedro and passes what is worth tracking to ``recorder``. One ``outbox`` per store
calls the ``Tracker`` interface and keeps the calls that fail. ``mlflow_store``, ``wandb_store`` and
``tensorboard_files`` implement the interface.
"""

from seg_pipeline.hooks.tracking.tracking_hooks import TrackingHooks

__all__ = ["TrackingHooks"]
