"""How tasks and workers end, and tasks that wait for one another."""
