"""`python -m rungwise`: the same as the command `rungwise`."""

import sys

from rungwise.cli import main

if __name__ == "__main__":
    sys.exit(main())
