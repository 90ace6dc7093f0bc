"""What a project relies on, and its pool does not do."""
