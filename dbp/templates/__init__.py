"""`dbp new`: a plugin package from templates."""
