"""Schedules at work: the loop that fires them, and the duties of Holdfast's own."""
