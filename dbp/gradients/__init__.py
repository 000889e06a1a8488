"""Gradient rules, perturbed samples in slices, and the sums of backward passes."""
