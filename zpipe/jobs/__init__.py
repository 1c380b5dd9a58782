"""What is asked of a job, and its nodes run to their end for a command."""
