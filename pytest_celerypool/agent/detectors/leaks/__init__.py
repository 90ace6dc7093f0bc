"""What tasks leave behind in their worker."""
