"""Agents that learn in generated worlds and are tested in the simulators."""
