"""The command line: one thin Hydra app per command."""
