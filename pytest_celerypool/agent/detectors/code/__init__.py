"""What the user's code does, read without running it."""
