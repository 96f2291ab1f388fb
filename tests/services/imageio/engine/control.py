"""Control service of an imageio daemon: HTTP on a unix socket."""

import http.client
import json
import socket


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=70)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """One daemon; raises OSError while it is down."""

    def __init__(self, control, url):
        self.control, self.url = control, url

    def put(self, ticket):
        status, body = self._call("PUT", ticket["uuid"], ticket)
        if status != 200:
            print("add ticket:", status, body, flush=True)
        return status == 200

    def get(self, ticket_id):
        """The ticket's state, or None when it is gone."""
        status, body = self._call("GET", ticket_id)
        return json.loads(body) if status == 200 else None

    def extend(self, ticket_id, seconds):
        return self._call("PATCH", ticket_id, {"timeout": seconds})[0] == 200

    def delete(self, ticket_id):
        """False while an operation still runs on the ticket."""
        return self._call("DELETE", ticket_id)[0] != 409

    def _call(self, method, ticket_id, message=None):
        connection = _Connection(self.control)
        try:
            connection.request(
                method, f"/tickets/{ticket_id}", body=None if message is None else json.dumps(message)
            )
            response = connection.getresponse()
            return response.status, response.read().decode()
        except http.client.HTTPException as error:
            raise OSError(error) from error
        finally:
            connection.close()
