"""One package a pipeline: nodes.py says what runs, pipeline.py in which order."""
