"""The file backend: every aggregate a document for people, beside an index that is the commit point."""
