"""HTTP side of the stand-in engine."""

import http.server
import json
import re
import ssl
from urllib.parse import parse_qs, urlsplit

from . import knobs, render
from .model import API, Fault

HTML = "text/html;charset=UTF-8"
UNAUTHORIZED = b"<html><head><title>Error</title></head><body>Unauthorized</body></html>"
UNAVAILABLE = b"<html><head><title>503 Service Unavailable</title></head><body></body></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120
    engine = None

    def log_message(self, *args):
        pass

    def handle_request(self):
        path = urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith("/_fake/"):
            return self.reply_json(*knobs.handle(self.engine, self.command, path, data))
        shown = re.sub(rb"(password|token)=[^&]*", rb"\1=***", data).decode("utf-8", "replace")
        user = self.user()
        self.engine.log.append(
            {"method": self.command, "path": self.path, "user": user, "body": shown})
        if path == "/ovirt-engine/sso/oauth/token":
            return self.sso_token(data)
        if path == "/ovirt-engine/services/sso-logout":
            self.engine.tokens.pop(parse_qs(data.decode()).get("token", [""])[0], None)
            return self.reply_json(200, {})
        if user is None:
            return self.reply(401, UNAUTHORIZED, HTML, {"WWW-Authenticate": 'Basic realm="RESTAPI"'})
        if fail := self.engine.users[user].get("fail_next"):
            return self.reply(fail.pop(0), UNAVAILABLE, HTML)
        if self.headers.get("Version", "4") != "4":
            return self.reply(400, b"<html></html>", HTML)
        try:
            self.api(user, path, data)
        except Fault as fault:
            if fault.status == 404 and not fault.detail:
                return self.reply(404)
            self.reply_model(fault.status, "fault", {"detail": fault.detail, "reason": fault.reason})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def api(self, user, path, data):
        engine, parts = self.engine, path.removeprefix(API).strip("/").split("/")
        match (self.command, *parts):
            case ("GET", ""):
                self.reply_model(200, "api", {"product_info": {
                    "name": "oVirt Engine", "vendor": "ovirt.org", "version": {
                        "build": 0, "full_version": "4.5.6-1.el9", "major": 4, "minor": 5,
                        "revision": 6}}})
            case ("GET", "disks", disk_id):
                self.reply_model(*engine.disk(disk_id))
            case ("GET", "storagedomains", domain_id):
                self.reply_model(*engine.storage_domain(domain_id))
            case ("GET", "hosts", host_id):
                self.reply_model(*engine.hypervisor(host_id))
            case ("POST", "imagetransfers"):
                self.add_transfer(user, data)
            case ("GET", "imagetransfers"):
                self.reply_model(*engine.list_transfers())
            case ("GET", "imagetransfers", transfer_id):
                self.reply_model(*engine.transfer(transfer_id))
            case ("POST", "imagetransfers", transfer_id,
                  ("finalize" | "cancel" | "extend" | "pause" | "resume") as action):
                self.reply_model(*engine.act(transfer_id, action))
            case _:
                raise Fault(404)

    def add_transfer(self, user, data):
        try:
            request = render.parse(self.headers.get("Content-Type", ""), data)
        except ValueError as error:
            raise Fault(400, str(error), "Operation failed") from error
        transfer, lost = self.engine.add_transfer(user, request)
        if lost:
            self.close_connection = True
            return
        self.reply_model(201, "image_transfer", self.engine.transfer_model(transfer))

    def sso_token(self, data):
        form = {key: values[0] for key, values in parse_qs(data.decode()).items()}
        if form.get("grant_type") != "password":
            return self.reply_json(400, {
                "error_code": "unsupported_grant_type",
                "error": "The authorization grant type is not supported by the authorization server."})
        with self.engine.lock:
            token = self.engine.login(form.get("username"), form.get("password"))
        if token is None:
            return self.reply_json(400, {
                "error_code": "access_denied",
                "error": f"Cannot authenticate user '{form.get('username')}': The username or "
                         "password is incorrect.."})
        self.reply_json(200, {"access_token": token, "scope": "ovirt-app-api",
                              "exp": "9223372036854775807", "token_type": "bearer"})

    def user(self):
        """Whose token the request carries; None without a good one."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return self.engine.tokens.get(token.strip()) if scheme == "Bearer" else None

    def reply(self, status, data=b"", content_type=None, headers=None):
        self.send_response(status)
        if data:
            self.send_header("Content-Type", content_type)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def reply_json(self, status, message):
        self.reply(status, json.dumps(message).encode(), "application/json")

    def reply_model(self, status, name, model):
        headers = {"Location": model["href"]} if status == 201 else {}
        if "json" in self.headers.get("Accept", ""):
            self.reply(status, render.to_json(model), "application/json", headers)
        else:
            self.reply(status, render.to_xml(name, model), "application/xml;charset=UTF-8", headers)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, config, engine):
        Handler.engine = engine
        super().__init__((config["address"], config["port"]), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config["cert"], config["key"])
        # The handshake runs in the connection's thread, not in accept().
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request, client_address):
        pass  # clients that go away are normal here
