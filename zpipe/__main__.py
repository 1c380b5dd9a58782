"""`python -m zpipe` is the command `zpipe`."""

import gc
import signal

__all__ = ["main"]


def main() -> None:
    """Load the command line and run it. An interrupt while it loads ends the process, as it ends any other program."""
    gc.disable()  # until what is loaded is there: it stays
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from zpipe.cli import main as command

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
