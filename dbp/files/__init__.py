"""Files that survive: atomic replacement and locks. Imports no torch."""
