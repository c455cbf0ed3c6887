"""Benchmarks run by hand, so a renamed function would break them unseen."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

FOLDERS = ("benchmarks", "scripts", "docs")
FILES = [path for folder in FOLDERS for path in sorted(Path(folder).glob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_what_they_import_from_the_package_exists(path):
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.level == 0 and (node.module or "").startswith("seg_pipeline"):
            module = import_module(node.module)
            for alias in node.names:
                found = hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}")
                assert found, f"line {node.lineno}: {node.module}.{alias.name}"
