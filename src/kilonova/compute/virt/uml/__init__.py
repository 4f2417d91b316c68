"""User-Mode Linux: guests that are bare processes, without any daemon. A driver in small."""
