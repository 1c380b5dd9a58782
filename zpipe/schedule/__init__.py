"""Items that go by a schedule: what each claims, as it is read."""
