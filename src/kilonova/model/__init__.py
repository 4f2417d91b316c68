"""The nouns of a compute cloud and the rules that hold between them.

Pure data and pure functions: nothing here does I/O, reads a clock or knows another room.
"""
