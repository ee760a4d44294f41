"""`python -m thresher` is the command line."""

from .jobs.cli import main

main()
