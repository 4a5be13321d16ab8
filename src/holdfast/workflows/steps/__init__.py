"""What a step of a YAML definition can be: one module per kind, and the registry that finds them."""
