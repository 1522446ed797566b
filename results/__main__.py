"""`python -m results`, the command's name in version 0.1; goes with version 0.3."""

import sys

from rungwise.results.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
