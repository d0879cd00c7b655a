"""Capacity planning: what a cluster holds, what limits it, what growth and loss do to it."""
