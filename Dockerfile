# The project with the extras needed to run it. Mount your data at /project/data.
# CPU:  docker build --build-arg TORCH_INDEX=<the CPU index address on pytorch.org> -t seg_pipeline .
# CUDA: docker build -t seg_pipeline:cuda .      (pip's default torch includes the CUDA libraries)
# A tag can move, so the base image is named by digest: the multi-platform index of python:3.11-slim-bookworm at Python
# 3.11.17, as three unrelated public Dockerfiles name it too (looked up on 2026-11-28; no registry was asked).
# Take a newer one, for fixes of Debian and Python, with what this prints:
#   docker buildx imagetools inspect python:3.11-slim-bookworm
ARG BASE=python:3.11.17-slim-bookworm@sha256:2333bd330d12de02514770b3585cad313644316047cdee24a7acfdece6de6efb
FROM ${BASE}

# Libraries that OpenCV needs. Unpinned: the base image's release fixes their versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libxcb1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 runner && mkdir --parents /project/data && chown --recursive runner /project
USER 1000
WORKDIR /project
ENV PATH=/home/runner/venv/bin:$PATH \
    DO_NOT_TRACK=true KEDRO_DISABLE_TELEMETRY=true MLFLOW_DISABLE_TELEMETRY=true \
    PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 \
    MLFLOW_TRACKING_URI=sqlite:////project/data/mlflow.db
# The tracked runs are in the volume too; `docker run --rm` deletes everything beside it.

# Packages first: they rarely change, so editing the code does not reinstall them.
ARG TORCH_INDEX=
COPY --chown=runner pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=runner src/seg_pipeline/__init__.py src/seg_pipeline/__init__.py
RUN python -m venv /home/runner/venv \
    && if [ -n "${TORCH_INDEX}" ]; then \
           pip install --no-deps --constraint constraints.txt --index-url "${TORCH_INDEX}" torch torchvision; fi \
    && pip install --constraint constraints.txt --editable '.[export,medical,serve]'

COPY --chown=runner . .
VOLUME /project/data
CMD ["kedro", "run"]
