"""What tasks share, or believe they share, of the user's own modules."""
