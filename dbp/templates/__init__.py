"""The command `dbp new`: writes a plugin package from templates."""
