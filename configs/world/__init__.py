"""The world to train; a file of your own is found with --config-dir."""
