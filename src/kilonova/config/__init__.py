"""Typed settings: defaults, kilonova.toml or an operator's nova.conf, KILONOVA_* variables, the command line.

``load()`` returns a frozen :class:`Settings` that is handed to whoever needs it; nothing is global. Section
and option names are Nova's wherever Nova has the thing. This room reads files and the environment it is
given, and knows nobody.
"""

from kilonova.config.errors import ConfigError
from kilonova.config.loading import load
from kilonova.config.secret import Secret
from kilonova.config.sections_neighbours import Session
from kilonova.config.settings import Settings, Shown
from kilonova.config.urls import DatabaseUrl, TransportUrl

__all__ = ["ConfigError", "DatabaseUrl", "Secret", "Session", "Settings", "Shown", "TransportUrl", "load"]
