"""What keeps a store in order over the years: moving, checking, measuring."""
