"""Trust: what labels say of the reuse, which rule decides by them, and how often it is wrong. Pure."""
