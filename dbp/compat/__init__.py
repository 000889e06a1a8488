"""The calls of other projects: one changed import line ports their code."""
