"""Placement's resources, one file a noun. A handler takes (request, context) and answers."""
