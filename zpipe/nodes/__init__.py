"""The nodes of a job: ventilator, workers in their slots, sink. Thin shells: poll, decide by `core`, send."""
