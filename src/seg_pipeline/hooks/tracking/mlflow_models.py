"""Save models in mlflow's format: code, safetensors or ONNX weights, and a signature; nothing is pickled.

``mlflow.pytorch`` would be shorter, but its pickle-free format (pt2) cannot store the default encoder with dynamic
height and width: torch.export turns TensorFlow's "same" padding into a ceil that it cannot serialise.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import seg_pipeline

HERE = Path(__file__).parent
PACKAGE = Path(seg_pipeline.__file__).parent


def save_checkpoint_model(checkpoint: dict[str, Any], folder: Path) -> Path:
    """Save the best model, or the ensemble of all folds: uint8 (B, C, H, W) to probabilities (B, K, H, W)."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from safetensors.torch import save_file

    from seg_pipeline.segmentation.settings.training_config import TrainingConfig

    weights = folder / "weights"
    weights.mkdir(parents=True)
    models = checkpoint["models"]
    for number, trained in enumerate(models):
        tensors = {name: tensor.contiguous() for name, tensor in trained["model"].items()}
        save_file(tensors, weights / f"model_{number}.safetensors")
    (weights / "training_configs.json").write_text(
        json.dumps([trained["config"] for trained in models]), encoding="utf-8"
    )
    config = TrainingConfig.from_dict(models[0]["config"])
    signature = ModelSignature(  # with a named TensorSpec, mlflow rejects arrays
        Schema([TensorSpec(np.dtype(np.uint8), (-1, config.input.num_channels, -1, -1))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, config.num_channels, -1, -1))]),
    )
    packages = ["torch", "segmentation-models-pytorch", "timm", "torchvision", "safetensors"]
    return _save(folder / "model", "checkpoint_model.py", {"weights": str(weights)}, signature, packages)


def save_bundle_model(bundle: Path, folder: Path) -> Path:
    """Save an exported bundle: image files (column ``image``, base64 in JSON) to one row per image and class."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    columns = {"image": "long", "class": "string", "height": "long", "width": "long", "area": "long", "rle": "string"}
    signature = ModelSignature(
        Schema([ColSpec(DataType.binary, "image")]),
        Schema([ColSpec(kind, name) for name, kind in columns.items()]),
    )
    return _save(folder / "model", "bundle_model.py", {"bundle": str(bundle)}, signature, ["onnxruntime"])


def _save(folder: Path, code: str, artifacts: dict[str, str], signature: Any, packages: list[str]) -> Path:
    """Save the model with a copy of this package, so that it loads where the package is not installed."""
    from seg_pipeline.hooks.tracking.environment_tags import pinned_requirements
    from seg_pipeline.hooks.tracking.mlflow_store import set_defaults

    set_defaults()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing type hints and input examples
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            folder,
            python_model=str(HERE / "mlflow_model_code" / code),
            artifacts=artifacts,
            code_paths=[str(PACKAGE)],
            signature=signature,
            pip_requirements=pinned_requirements(
                ["imagecodecs", "mlflow", "numpy", "opencv-python", "pandas", "pillow", "scipy", "tifffile", *packages]
            ),
        )
    return folder
