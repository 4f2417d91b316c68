"""Run by the real services' Python: what keystonemiddleware makes of requests. JSON on stdin, JSON on stdout.

{"conf": {option: value}, "requests": [{header: value}]} -> [{"status": ..., "seen": {header: value}}]
"""

import json
import logging
import sys

asked = json.load(sys.stdin)

from keystonemiddleware.auth_token import AuthProtocol  # noqa: E402 - slow, after what can fail
from webob import Request, Response  # noqa: E402 - as above

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def service(environ, start_response):
    seen = {key: value for key, value in environ.items() if key.startswith(("HTTP_X_", "HTTP_OPENSTACK_"))}
    return Response(json_body=seen)(environ, start_response)


middleware = AuthProtocol(service, asked["conf"])
answers = []
for headers in asked["requests"]:
    got = Request.blank("/v2/things", headers=headers).get_response(middleware)
    seen = got.json_body if got.status_int == 200 else {}
    answers.append({"status": got.status_int, "seen": seen, "headers": dict(got.headers)})
json.dump(answers, sys.stdout)
