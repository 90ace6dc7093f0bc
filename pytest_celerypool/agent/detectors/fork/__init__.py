"""What the children of a prefork pool inherit, and must not use."""
