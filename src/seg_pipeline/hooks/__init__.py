"""Kedro hooks: checks before a run, tracking during it, and a summary or one clear error after it."""
