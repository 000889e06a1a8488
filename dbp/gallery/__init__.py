"""A picture of each solver: its scores and its decision."""
