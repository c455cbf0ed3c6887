"""Models that mlflow stores as code beside plain weights: it runs these files when it saves and loads a model."""
