"""Commands of `seg-pipeline` that need neither Kedro nor torch."""

import argparse


def now_bundle_format(_: str) -> str:
    """Reader of the former option ``--form``, which names its replacement."""
    raise argparse.ArgumentTypeError("this option is now called --bundle-format")
