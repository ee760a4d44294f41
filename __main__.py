"""`python -m thresher` is the command line."""

import sys

try:
    from .jobs.cli import main
except KeyboardInterrupt:
    sys.exit(130)

main()
