"""The hub of a green pool: who keeps it, and what was not patched for it."""
