"""One module per measured system; each is run as a script and imports only its own system and `meter`."""
