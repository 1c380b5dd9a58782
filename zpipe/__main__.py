"""`python -m zpipe` is the command `zpipe`."""

from zpipe.cli import main

if __name__ == "__main__":
    main()
