"""Commands of `seg-pipeline` that need neither Kedro nor torch."""

import argparse


def renamed_to_bundle_format(_: str) -> str:
    """argparse type of the former option ``--form``: its error names the new option."""
    raise argparse.ArgumentTypeError("this option is now called --bundle-format")
