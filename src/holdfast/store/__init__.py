"""The system of record: drivers, statements, journal, codec, migrations."""
