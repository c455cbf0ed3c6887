import ast
from pathlib import Path

from seg_pipeline.segmentation.manifest.finding_rules import RULES

ROOT = Path(__file__).parents[3]


def _first_text(call, position):
    part = call.args[position] if len(call.args) > position else None
    return {part.value} if isinstance(part, ast.Constant) and isinstance(part.value, str) else set()


def test_every_rule_that_the_code_names_is_explained_and_no_other():
    positions = {"Finding": 0, "MaskError": 0, "quarantine": 2, "_about": 1, "note_repairs": 1}
    named = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in positions:
                named |= _first_text(node, positions[node.func.id])
            elif isinstance(node, ast.Tuple) and node.elts and "findings" in text:  # features: (rule, reason, action)
                values = [part.value for part in node.elts if isinstance(part, ast.Constant)]
                if {"dropped", "repaired", "flagged"} & set(values) and isinstance(node.elts[0], ast.Constant):
                    named.add(values[0])
    named -= {"dropped", "repaired", "flagged", "drop", "flag"}
    assert named == set(RULES)
