"""``python -m ibd``: the command line."""

import sys

from ibd.cli import main

if __name__ == "__main__":
    sys.exit(main())
