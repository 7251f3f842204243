"""`python -m analyzer` is `analyzer`."""

from analyzer.cli import main

main()
