"""One module per top-level command, imported when that command is used."""
