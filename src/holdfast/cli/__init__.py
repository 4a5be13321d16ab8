"""The command line: a face of the library, with no logic that the library lacks."""
