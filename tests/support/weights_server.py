"""A server of weights on this machine: what tests put into it, whole, cut off, late or not at all."""

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEWEST = "c0ffee" + 34 * "0"
"""Commit that the imitated Hub calls "main"."""


class WeightsServer:
    """Serves bytes by path on the loopback interface; `with` starts and stops it.

    Attributes:
        files: Path to bytes. `/<owner>/<name>/resolve/<revision>/<file>` is asked for as on the Hugging Face Hub, and
            is found under `/<owner>/<name>/<file>` whatever the revision.
        requests: Method and path of every request so far.
        sent: Path to the number of bytes that really go out before the connection is closed.
        lengthless: Paths whose length the server does not say.
        etags: Path to what the Hub says in place of the file's sha256.
        commit: What the Hub says its answer is of; None for what it was asked for.
        gate: Cleared, it stops every answer halfway.
        halfway: Set when an answer has come to the gate.
    """

    def __init__(self):
        self.files, self.sent, self.etags = {}, {}, {}
        self.requests, self.lengthless, self.commit = [], set(), None
        self.gate, self.halfway = threading.Event(), threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"weights": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def downloads(self, ending: str = "") -> int:
        """How many GET requests there were for paths that end so."""
        return sum(method == "GET" and path.endswith(ending) for method, path in self.requests)


class _Handler(BaseHTTPRequestHandler):
    weights: WeightsServer

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        server = self.weights
        server.requests.append((self.command, self.path))
        hub = re.fullmatch(r"(/[^/]+/[^/]+)/resolve/([^/]+)(/.+)", self.path)
        path = hub[1] + hub[3] if hub else self.path
        content = server.files.get(path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        if hub:
            self.send_header("X-Repo-Commit", server.commit or (NEWEST if hub[2] == "main" else hub[2]))
            self.send_header("ETag", f'"{server.etags.get(path, hashlib.sha256(content).hexdigest())}"')
        if path not in server.lengthless:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body:
            return
        with contextlib.suppress(ConnectionError):  # who asked may have been killed
            sent = content[: server.sent.get(path, len(content))]
            self.wfile.write(sent[: len(sent) // 2])
            self.wfile.flush()
            if not server.gate.is_set():
                server.halfway.set()
                server.gate.wait()
            self.wfile.write(sent[len(sent) // 2 :])

    def log_message(self, format, *arguments):
        pass
