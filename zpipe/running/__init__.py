"""What a worker does: tasks are loaded and run over chunks, and what becomes of the items is told."""
