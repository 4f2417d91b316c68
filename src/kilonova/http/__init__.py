"""What every HTTP face shares: routing, requests, answers, faults, bodies, the ASGI application.

Knows no resource, no database and no service.
"""
