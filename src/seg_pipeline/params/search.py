"""Parameters of the hyperparameter search; the groups are declared in `segmentation/settings/search.py`."""

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.search import (
    GridSettings,
    PoolSettings,
    Range,
    SanityCheckSettings,
    TpeSettings,
)
from seg_pipeline.segmentation.settings.training_config import GROUPS, TrainingConfig


class HparamSearchParams(Params):
    sanity_checks: SanityCheckSettings = SanityCheckSettings()
    grid: GridSettings = GridSettings()
    tpe: TpeSettings = TpeSettings()
    pool: PoolSettings = PoolSettings()


def check_space(space: dict[str, Range | list[Any]], config: TrainingConfig) -> None:
    """Check that each name is a setting of the config and accepts the values of its range or choices.

    Raises:
        ValueError: unknown name, or a value that the setting does not allow.
    """
    for name, choices in space.items():
        values = [choices.low, choices.high] if isinstance(choices, Range) else choices
        types = {float if type(value) is int else type(value) for value in values}
        if not values or len(types - {type(None)}) > 1 or types == {float, type(None)}:  # a table column has one type
            raise ValueError(f"`hparam_search.tpe.space.{name}` must list choices of one type, found {values}")
        is_integer = isinstance(choices, Range) and choices.whole
        for value in values:
            _check_value(name, int(value) if is_integer else value, config)


def _check_value(name: str, value: Any, config: TrainingConfig) -> None:
    group, _, key = name.rpartition(".")
    settings = getattr(config, group, None) if group in GROUPS else None
    if settings is None or key not in asdict(settings):
        raise ValueError(
            f"`hparam_search.tpe.space`: there is no setting {name!r}; expected one of the groups "
            f"{', '.join(GROUPS)}, such as model.encoder"
        )
    try:
        TypeAdapter(type(settings)).validate_python({**asdict(settings), key: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"`hparam_search.tpe.space.{name}`: {value!r} is not allowed: {reason}") from None
