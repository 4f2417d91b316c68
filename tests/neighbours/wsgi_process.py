"""Run by the real services' Python: one of their WSGI applications on one port. `wsgi_process.py MODULE PORT`."""

import logging
import sys
from importlib import import_module

module, port = sys.argv[1:]
del sys.argv[1:]  # oslo.config reads it
application = import_module(module).application

from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: E402 - what is served comes first

logging.getLogger("werkzeug").setLevel(logging.ERROR)
WSGIRequestHandler.protocol_version = "HTTP/1.1"
make_server("127.0.0.1", int(port), application, threaded=True).serve_forever()
