"""kilonova: a compute cloud in one package, speaking OpenStack Nova's protocols."""

__version__ = "0.1.0"
