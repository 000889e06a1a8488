"""A picture of each solver: what scores it was given, and what it decided."""
