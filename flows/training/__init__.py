"""Training of the action network and the detector: recipe, steps, the Ray Train job, logs and cards."""
