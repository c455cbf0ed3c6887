"""Check the content of a checkpoint, which may come from an untrusted source, before building anything from it."""

import math
from typing import Any

from seg_pipeline.segmentation.settings.training_config import TrainingConfig

SHARED = ("task", "classes", "background", "scores")
"""Settings that all models of an ensemble share."""
_STATE = {
    "config": dict,
    "data_hash": str,
    "model": dict,
    "mean": (dict, type(None)),
    "optimizer": dict,
    "scaler": dict,
    "history": list,
    "best": (dict, type(None)),
    "step": int,
    "total_steps": int,
    "partial": (dict, type(None)),
    "seconds": (int, float),
    "validation_seconds": (int, float),
    "micro_batch": (int, type(None)),
    "finished": bool,
}


def model_configs(checkpoint: Any) -> list[TrainingConfig]:
    """Config of each model of a checkpoint; at least one.

    Raises:
        ValueError: it is not a checkpoint of this project, or its models differ in ``SHARED``; the message names the
            field.
    """
    _check(checkpoint, "", {"models": list})
    _check_models(checkpoint["models"])
    if not checkpoint["models"]:
        raise ValueError("checkpoint: `models` is empty, expected at least one trained model")
    configs = [_config(model, f"models.{number}") for number, model in enumerate(checkpoint["models"])]
    for number, config in enumerate(configs):
        for name in SHARED:
            if (found := getattr(config, name)) != (first := getattr(configs[0], name)):
                raise ValueError(
                    f"checkpoint: `models.{number}.config.{name}` is {found!r:.80}, but {first!r:.80} in the first "
                    "model; it must be equal in all models of an ensemble"
                )
    _check_temperatures(checkpoint.get("temperatures"), len(configs[0].classes))
    return configs


def _check_temperatures(temperatures: Any, num_classes: int) -> None:
    numbers = isinstance(temperatures, tuple) and all(
        isinstance(value, float) and 0 < value < math.inf for value in temperatures
    )
    if temperatures is not None and not (numbers and len(temperatures) == num_classes):
        raise ValueError(
            f"checkpoint: `temperatures` is {temperatures!r:.80}, expected None or a tuple of {num_classes} numbers "
            "above 0, one per class"
        )


def check_resumable(checkpoint: Any) -> TrainingConfig:
    """Config of a checkpoint to resume from.

    Raises:
        ValueError: it does not come from a training run of this project; the message names the field.
    """
    fields = {"config": dict, "data_hash": str, "folds": (int, type(None)), "models": list, "rows": list}
    _check(checkpoint, "", {**fields, "current": dict})
    _check_models(checkpoint["models"])
    _check(checkpoint["current"], "current.", _STATE)
    for name in ("rows", "current.history"):
        rows = checkpoint["rows"] if name == "rows" else checkpoint["current"]["history"]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"checkpoint: `{name}` must hold one dict per epoch")
    return _config(checkpoint, "")


def _check_models(models: list[Any]) -> None:
    for number, model in enumerate(models):
        optional = [name for name in ("row", "model") if isinstance(model, dict) and name in model]
        _check(model, f"models.{number}.", dict.fromkeys(["config", *optional], dict))


def _check(content: Any, prefix: str, fields: dict[str, Any]) -> None:
    if not isinstance(content, dict):
        where = f"`{prefix.rstrip('.')}` is" if prefix else "holds"
        raise ValueError(
            f"checkpoint: {where} {content!r:.80}, expected a dict as `kedro run --pipeline training` saves"
        )
    for name, kind in fields.items():
        if name not in content:
            raise ValueError(
                f"checkpoint: `{prefix}{name}` is missing; expected what `kedro run --pipeline training` saves"
            )
        value = content[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            expected = " or ".join(
                expected_type.__name__ for expected_type in (kind if isinstance(kind, tuple) else (kind,))
            )
            raise ValueError(
                f"checkpoint: `{prefix}{name}` is {value!r:.80}, expected {expected.replace('NoneType', 'None')}"
            )


def _config(content: dict[str, Any], where: str) -> TrainingConfig:
    try:
        return TrainingConfig.from_dict(content["config"])
    except ValueError as error:
        raise ValueError(f"checkpoint: `{where}{'.' if where else ''}config`: {error}") from None
