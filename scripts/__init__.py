"""What the Makefile runs: make the environment, find or start the services. Standard library only."""
