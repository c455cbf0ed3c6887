"""Image segmentation from raw files to a scored model, as a Kedro project."""

import os

__version__ = "0.1.0"

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
"""Rounds that torch's threads wait for each other before they give up their core; read when torch is imported. With
the default, ten times as many, threads on a busy machine or under a container's limit spend most of their time waiting.
"""
