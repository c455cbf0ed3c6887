"""Code of the models that mlflow stores; it runs these files when it saves and loads a model."""
