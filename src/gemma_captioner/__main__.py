"""The `gemma-captioner` command. Ctrl-C ends it in one line, even while it imports its libraries."""

import gc
import sys


def main() -> None:
    gc.set_threshold(100_000, 20, 20)  # at the default of 700, a fifth of the time of imports is garbage collection
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
