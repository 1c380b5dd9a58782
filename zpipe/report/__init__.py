"""What a person or a program is told of a job: as it runs, and at its end."""
