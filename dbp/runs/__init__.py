"""Runs: their folders, checkpoints, loggers and callbacks; starting, stopping and resuming them."""
