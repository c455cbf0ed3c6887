"""Kedro hooks: checks before a run, tracking during it, and a summary or one clear error after it."""

from __future__ import annotations

from seg_pipeline.hooks.command import CommandHooks
from seg_pipeline.hooks.errors import ErrorHooks, UserError
from seg_pipeline.hooks.figures import FigureHooks
from seg_pipeline.hooks.inputs import InputHooks
from seg_pipeline.hooks.parameters import ParameterHooks
from seg_pipeline.hooks.sample import SampleHooks
from seg_pipeline.hooks.summary import SummaryHooks
from seg_pipeline.hooks.terminal import TerminalHooks
from seg_pipeline.hooks.tracking import TrackingHooks

__all__ = [
    "CommandHooks",
    "ErrorHooks",
    "FigureHooks",
    "InputHooks",
    "ParameterHooks",
    "SampleHooks",
    "SummaryHooks",
    "TerminalHooks",
    "TrackingHooks",
    "UserError",
]
