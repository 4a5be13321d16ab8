"""What a platform does with its records: verbs that keep what belongs together in order."""
