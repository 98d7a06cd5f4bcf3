"""Running a training from a config: the run folder, loggers, callbacks."""
