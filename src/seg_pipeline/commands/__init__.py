"""Commands of `seg-pipeline` that need neither Kedro nor torch."""
