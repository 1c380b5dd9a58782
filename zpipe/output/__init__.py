"""What a sink writes, and what it remembers of that."""
