"""The nouns of the cloud and their state machine. Pure: no I/O, knows no other room."""
