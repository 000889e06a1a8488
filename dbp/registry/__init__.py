"""A name, its options, an object: nothing here imports what it names before it is built."""
