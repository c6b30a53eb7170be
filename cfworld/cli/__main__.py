"""`python -m cfworld.cli` is `cfworld`, for launchers that start modules."""

from cfworld.cli.main import main

main()
