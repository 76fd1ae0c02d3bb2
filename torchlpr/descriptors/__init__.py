"""Features of atomic environments."""
