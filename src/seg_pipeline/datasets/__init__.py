"""Catalog classes: how this project's data is read and written."""
