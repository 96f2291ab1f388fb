"""What a bench needs of the running services: disks, images, a TLS server, a block device."""

import json
import os
import random
import socket
import ssl
import subprocess
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

MIB = 1 << 20
ADMIN = {"name": "admin", "password": "adminpw", "project": "admin"}
USER = {"name": "fork", "password": "forkpw", "project": "migrate"}

# Like the front end of a cloud's image service: it ends TLS and keeps connections alive.
NGINX = """
worker_processes 2; daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size 0; proxy_max_temp_file_size 0;
  proxy_buffers 16 256k; proxy_buffer_size 256k; proxy_busy_buffers_size 1m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {pki}/cert.pem; ssl_certificate_key {pki}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3; keepalive_requests 1000000;
    location / {{ proxy_pass {upstream}; proxy_http_version 1.1; }}
  }}
}}
"""


def call(method, url, body=None, headers=None):
    """(headers, decoded JSON or None)."""
    request = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"} | (headers or {}))
    context = ssl.create_default_context(cafile=os.environ["SERVICES_CA"])
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        text = answer.read()
        return answer.headers, json.loads(text) if text.startswith((b"{", b"[")) else None


def token(name, password, project):
    domain = {"id": "default"}
    headers, _ = call("POST", os.environ["KEYSTONE_URL"] + "/auth/tokens", {"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"name": name, "domain": domain, "password": password}}},
        "scope": {"project": {"name": project, "domain": domain}}}})
    return headers["X-Subject-Token"]


def upload(path):
    """The id of an image with the file's bytes."""
    url, secret = os.environ["GLANCE_URL"] + "/v2/images", token(**USER)
    _, image = call("POST", url, {
        "name": "bench", "disk_format": "raw", "container_format": "bare"}, {"X-Auth-Token": secret})
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


def add_disk(path):
    """The id of a disk of the stand-in engine."""
    disk = str(uuid.uuid4())
    call("PUT", f"{os.environ['ENGINE_URL']}/_fake/disks/{disk}", {
        "name": "bench", "path": path, "format": "raw"})
    return disk


@contextmanager
def tls_in_front_of(upstream, folder):
    """The URL of a server that ends TLS and passes requests on."""
    port = free_port()
    config = os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(NGINX.format(
            folder=folder, port=port, upstream=upstream,
            pki=os.path.dirname(os.environ["SERVICES_CA"])))
    with child(["/usr/sbin/nginx", "-c", config, "-p", folder], lambda: answers(port)):
        yield f"https://localhost:{port}"


@contextmanager
def nbd_server(path, folder):
    """The URL at which qemu-nbd serves the file, with the options that the stand-in engine uses."""
    at = os.path.join(folder, f"{os.path.basename(path)}.sock")
    argv = ["qemu-nbd", "--socket", at, "--persistent", "--shared=8", "--read-only", "--cache=none",
            "--aio=native", "--discard=unmap", "--format=raw", path]
    with child(argv, lambda: os.path.exists(at)):
        yield f"nbd+unix:///?socket={at}"


@contextmanager
def block_device(path, size):
    """A loop device over a file of its own, full of 0xff, with direct I/O."""
    subprocess.run(
        f"tr '\\0' '\\377' < /dev/zero | head -c {size} > {path} && sync {path}", shell=True, check=True)
    shown = subprocess.run(
        ["losetup", "-f", "--show", "--direct-io=on", path], check=True, capture_output=True, text=True)
    device = shown.stdout.strip()
    held = os.open(device, os.O_RDONLY)
    # Detached while it is open: the kernel removes it with its last user, also when this program is killed.
    subprocess.run(["losetup", "-d", device], check=True)
    try:
        yield device
    finally:
        os.close(held)


@contextmanager
def child(argv, is_ready):
    process = subprocess.Popen(argv)
    try:
        end = time.monotonic() + 20
        while not is_ready():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{argv[0]} does not come up")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def dense_image(path, size):
    """Random bytes."""
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    subprocess.run(["sync", path], check=True)


def sparse_image(path, size, data):
    """`data` random bytes in pieces of 64 KiB to 8 MiB, at places that are the same every time."""
    unit = 64 << 10
    dice = random.Random(3)
    pieces, left = [], data // unit
    while left:
        pieces.append(min(left, 1 << dice.randrange(8)))
        left -= pieces[-1]
    holes = sorted(dice.choices(range((size - data) // unit + 1), k=len(pieces)))
    with open(path, "wb") as file:
        file.truncate(size)
        written = 0
        for hole, piece in zip(holes, pieces):
            file.seek((hole + written) * unit)
            file.write(os.urandom(piece * unit))
            written += piece
    subprocess.run(["sync", path], check=True)
