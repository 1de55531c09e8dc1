"""Receives webhooks over TLS, rejects the first attempts of each, and verifies the others with standardwebhooks.

Arguments: certificate, key, secret, number of attempts to reject per webhook. Prints its URL, then one JSON line per
accepted webhook.
"""

import collections
import http.server
import json
import ssl
import sys
import time

from standardwebhooks.webhooks import Webhook

certificate, key, secret, failure_count = sys.argv[1:]
seen = collections.Counter()


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        webhook_id = self.headers["webhook-id"]
        seen[webhook_id] += 1
        attempt = seen[webhook_id]
        if attempt == int(failure_count):
            # Keeps the delivery in flight for a while, so that the test can kill the service meanwhile.
            time.sleep(0.2)
        if attempt <= int(failure_count):
            self.send_error(503)
            return
        payload = Webhook(secret).verify(body, dict(self.headers))
        # Writes the line break in the same call, because another thread may print in between.
        print(json.dumps({"id": webhook_id, "told": payload}) + "\n", end="", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"https://localhost:{server.server_address[1]}/", flush=True)
server.serve_forever()
