"""An agent behind TLS that refuses the first token, and the server that gives tokens out."""

import http.server
import json
import subprocess
import threading

import grpc

from google_agent import GoogleAgent
from google_agent import Stream

TOKEN = "token-{}"
"""The first, the second, and so on."""


class RefusingAgent(GoogleAgent):
    """The server. With the first token everything is refused, as if somebody had revoked it."""

    def _streaming_detect_intent(self, requests, context):
        token = dict(context.invocation_metadata()).get("authorization")
        if token == f"Bearer {TOKEN.format(1)}":
            with self._lock:
                self.streams.append(Stream("StreamingDetectIntent", {"authorization": token}))
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token was revoked")
        yield from super()._streaming_detect_intent(requests, context)


class TokenServer:
    """What `token_uri` of a credentials file leads to."""

    def __init__(self):
        self.given = given = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                given.append(TOKEN.format(len(given) + 1))
                body = json.dumps({"access_token": given[-1], "expires_in": 3600, "token_type": "Bearer"}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def write_credentials(self, path):
        """A user's credentials file that leads here."""
        user = {"client_id": "interop", "client_secret": "secret", "refresh_token": "refresh"}
        path.write_text(json.dumps(user | {"type": "authorized_user", "token_uri": self.uri}))


def make_certificate(folder):
    """A self-signed certificate for this machine: the paths of its key and of itself."""
    key, certificate = folder / "tls.key", folder / "tls.crt"
    subprocess.run(
        [
            *["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=interop"],
            *["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
            *["-keyout", key, "-out", certificate],
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate
