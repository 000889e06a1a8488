"""What every backward pass is made of: gradient rules, samples in slices, sums."""
