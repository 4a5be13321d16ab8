"""One module per database: connect, run, transact, flush, translate errors."""
