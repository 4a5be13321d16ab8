"""The configuration: one schema, read once at the edge, every value with the place it came from."""
