#!/bin/bash
# Checks training on a machine with an NVIDIA GPU, without network or installation: bash scripts/gpu_check.sh [WHEELS]
#
# Needs Python with torch 2.8 or newer, torchvision, timm, opencv-python-headless, pandas, pyarrow, joblib, psutil,
# pytest and pytest-timeout. WHEELS is a folder with wheels of what else the library imports, made on a machine with
# network: pip download --no-deps -d WHEELS segmentation-models-pytorch annotated-types
set -uo pipefail
wheels=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
if [ -n "$wheels" ]; then
  site=$(mktemp -d)
  python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$wheels"/*.whl || exit
  export PYTHONPATH="$site:${PYTHONPATH:-}"
fi
export PYTHONPATH="$PWD/src:${PYTHONPATH:-}" PYTHONUNBUFFERED=1
python3 -c 'import torch; assert torch.cuda.is_available(), "torch finds no GPU"; print(torch.__version__, torch.cuda.get_device_name(0))' || exit
began=$SECONDS
timeout "${GPU_TEST_SECONDS:-200}" python3 -m pytest -q -p no:cacheprovider -m gpu tests/segmentation/*/test_gpu.py
tests=$?
echo "tests: exit $tests, $((SECONDS - began)) s"
began=$SECONDS
timeout "${GPU_BENCH_SECONDS:-400}" python3 benchmarks/gpu.py
bench=$?
echo "benchmark: exit $bench, $((SECONDS - began)) s"
exit $((tests | bench))
