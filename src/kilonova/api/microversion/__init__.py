"""Microversions as data: what a version is, how it is agreed on, and what a declaration of fields becomes in it.

Knows no resource, no database and no service.
"""
