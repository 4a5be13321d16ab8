"""How a run is shown while it goes on: a tree on a terminal, lines in a pipe, JSON lines, or nothing."""
