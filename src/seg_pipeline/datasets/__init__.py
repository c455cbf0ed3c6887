"""Kedro catalog classes that read and write this project's data."""
