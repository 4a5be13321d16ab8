"""What a workflow is and how it runs: YAML and Python definitions, engine, replay, steps."""
