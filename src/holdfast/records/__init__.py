"""What is stored, declared once and without any I/O."""
