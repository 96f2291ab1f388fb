"""An image in the tests' Glance, and the servers that clients reach it through."""

import os
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import clients
import counts
from services import ADMIN, USER, answers, call, child, free_port, token

OPENSTACK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/services/openstack")
# Like the front end of a cloud's image service: it ends TLS and keeps connections alive.
NGINX = """
worker_processes 2; daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 128; }}
http {{
  log_format plain '$request_method $uri $status'; access_log {folder}/requests plain;
  client_max_body_size 0; proxy_max_temp_file_size 0;
  proxy_buffers 16 256k; proxy_buffer_size 256k; proxy_busy_buffers_size 1m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {pki}/cert.pem; ssl_certificate_key {pki}/key.pem;
  ssl_protocols TLSv1.2 TLSv1.3; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{status}; access_log off; location / {{ stub_status; }} }}
  {servers}
}}
"""
SERVER = """
  server {{
    listen 127.0.0.1:{port} ssl;
    location / {{ proxy_pass {upstream}; proxy_http_version 1.1; {more} }}
  }}
"""
# Glance on a store that cannot seek (RBD behind some front ends, Swift, S3) sends the whole image to whoever asks for a range.
WITHOUT_RANGES = 'proxy_set_header Range "";'


@dataclass(frozen=True)
class At:
    """How one server is reached. `keystone` is as far away as the image."""

    image: str
    keystone: str
    region: str
    port: int

    @property
    def address(self):
        return "localhost", self.port

    @property
    def path(self):
        return f"/v2/images/{self.image}/file"

    @property
    def url(self):
        return f"https://localhost:{self.port}{self.path}"


@dataclass(frozen=True)
class Cloud:
    """`at` has an At for each name of a server; `counter` counts for all."""

    at: dict
    counter: counts.Glance


@contextmanager
def running(names, path, folder):
    """A Cloud with the servers of these names and an image of the file's bytes: `plain`, `ordered` (no ranges), `uncached`
    (every request is validated at Keystone), or a time like `20ms`, the round trip to a far one that is plain itself; with a rate
    behind it, like `20ms 1000Mbit`, by a link that carries so many bits a second."""
    near = {"plain"} | {name for name in names if not name[0].isdigit()}
    ports = {name: free_port() for name in near}
    status, keystone = free_port(), os.environ["KEYSTONE_TLS_URL"]
    if "uncached" in near:
        subprocess.run([os.path.join(OPENSTACK, "start"), "uncached"], check=True)
    servers = "".join(
        SERVER.format(
            port=port, more=WITHOUT_RANGES if name == "ordered" else "",
            upstream=os.environ["GLANCE_UNCACHED_URL" if name == "uncached" else "GLANCE_URL"])
        for name, port in ports.items())
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(NGINX.format(
            folder=folder, status=status, servers=servers, pki=os.path.dirname(os.environ["SERVICES_CA"])))
    image = upload(path)
    with ExitStack() as stack:
        stack.enter_context(child(["/usr/sbin/nginx", "-c", config, "-p", folder], lambda: answers(status)))
        # Several benches may run one after another on the same services.
        region = f"Bench-{image}-"
        places = {name: At(image, keystone, region + name, port) for name, port in ports.items()}
        for name in sorted(names - near):
            # The image's bytes and the tokens' take the same link in a cloud; tokens are few.
            port = stack.enter_context(far(f"127.0.0.1:{ports['plain']}", name))
            host, path_of_keystone = keystone.removeprefix("https://").split("/", 1)
            identity = stack.enter_context(far(host, name))
            places[name] = At(image, f"https://127.0.0.1:{identity}/{path_of_keystone}", region + name.replace(" ", "-"), port)
        for place in places.values():
            add_region(place.region, f"https://localhost:{place.port}")
        for name in near:
            warm_up(f"https://localhost:{ports[name]}")
        yield Cloud(places, counts.Glance(f"http://127.0.0.1:{status}/", os.path.join(folder, "requests")))


# Of one connection, in bytes: what the kernel's default lets TCP have under way (net.ipv4.tcp_rmem).
TCP_WINDOW = 6 << 20


@contextmanager
def far(address, name):
    """The port of a proxy that holds bytes back (bench/peers/delay). `address` takes TLS."""
    port = free_port()
    round_trip, _, rate = name.partition(" ")
    argv = [clients.program("delay"), "-listen", f"127.0.0.1:{port}", "-to", address, "-round-trip", round_trip]
    if rate:
        bytes_per_second = int(rate.removesuffix("Mbit")) * 1_000_000 // 8
        argv += ["-rate", str(bytes_per_second), "-window", str(TCP_WINDOW)]
    with child(argv, lambda: answers(port)):
        # TCP's handshake, that of TLS and a request take a round trip each. Other work on the machine makes some slower.
        least = 3 * int(round_trip.removesuffix("ms")) / 1000
        took = min(seconds_to_first_byte(port) for _ in range(5))
        if took < least:
            raise RuntimeError(f"a server {round_trip} away answered within {took:.3f} s, and not after {least:.3f} s")
        yield port


def seconds_to_first_byte(port):
    trust = ssl.create_default_context(cafile=os.environ["SERVICES_CA"])
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        with trust.wrap_socket(plain, server_hostname="localhost") as encrypted:
            encrypted.sendall(b"GET / HTTP/1.0\r\n\r\n")
            encrypted.recv(1)
    return time.monotonic() - begin


def upload(path, disk_format="raw"):
    """The id of an image with the file's bytes."""
    url, secret = os.environ["GLANCE_URL"] + "/v2/images", token(**USER)
    _, image = call("POST", url, {
        "name": "bench", "disk_format": disk_format, "container_format": "bare"}, {"X-Auth-Token": secret})
    subprocess.run(
        ["curl", "-sS", "--fail", "-o", "/dev/null", "-T", path, "-H", f"X-Auth-Token: {secret}",
         "-H", "Content-Type: application/octet-stream", f"{url}/{image['id']}/file"], check=True)
    return image["id"]


def add_region(name, image_url):
    """A region of the catalog whose image service is at the URL."""
    keystone, headers = os.environ["KEYSTONE_URL"], {"X-Auth-Token": token(**ADMIN)}
    call("POST", keystone + "/regions", {"region": {"id": name}}, headers)
    for kind, url in (("identity", keystone), ("image", image_url)):
        _, answer = call("GET", f"{keystone}/services?type={kind}", headers=headers)
        call("POST", keystone + "/endpoints", {"endpoint": {
            "service_id": answer["services"][0]["id"], "region_id": name, "interface": "public",
            "url": url}}, headers)


def warm_up(image_url):
    """The first requests to each process of Glance load most of its code."""
    headers = {"X-Auth-Token": token(**USER)}
    with ThreadPoolExecutor(8) as pool:
        for answer in [pool.submit(call, "GET", image_url + "/v2/images", None, headers) for _ in range(32)]:
            answer.result()
