"""REST resources, one per module."""
