"""The benchmark that is installed with the package."""
