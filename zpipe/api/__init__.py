"""What scripts embed: the executor, its maps and futures, and its other faces."""
