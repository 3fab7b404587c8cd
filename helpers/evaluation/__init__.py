"""How good the masks are, and how sure we can be of it."""
