"""A run: how it starts, is kept, stops, and resumes."""
