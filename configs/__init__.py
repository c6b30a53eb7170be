"""The configuration of every command, and the groups that they choose from."""
