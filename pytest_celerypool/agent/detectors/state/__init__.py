"""State of a process or a slot that tasks change for others."""
