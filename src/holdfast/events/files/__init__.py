"""The event log in files: one folder per execution, one line of JSON per event."""
