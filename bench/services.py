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
from contextlib import contextmanager

MIB = 1 << 20
ADMIN = {"name": "admin", "password": "adminpw", "project": "admin"}
USER = {"name": "fork", "password": "forkpw", "project": "migrate"}

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


def add_disk(path):
    """The id of a disk of the stand-in engine."""
    disk = str(uuid.uuid4())
    call("PUT", f"{os.environ['ENGINE_URL']}/_fake/disks/{disk}", {
        "name": "bench", "path": path, "format": "raw"})
    return disk


@contextmanager
def nbd_server(path, folder):
    """The URL at which qemu-nbd serves the file, with the options that the stand-in engine uses."""
    at = os.path.join(folder, f"{os.path.basename(path)}.sock")
    argv = ["qemu-nbd", "--socket", at, "--persistent", "--shared=8", "--read-only", "--cache=none",
            "--aio=native", "--discard=unmap", "--format=raw", path]
    with child(argv, lambda: os.path.exists(at)):
        yield f"nbd+unix:///?socket={at}"


@contextmanager
def block_device(path, size, allocated):
    """A loop device over a file of its own, with direct I/O: full of 0xff when `allocated`, else without a block."""
    fill = f"tr '\\0' '\\377' < /dev/zero | head -c {size} > {path}" if allocated else f"truncate -s {size} {path}"
    subprocess.run(f"{fill} && sync {path}", shell=True, check=True)
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


def stain(device):
    """Writes 0xff to places of the device, so that a copy which does not write its zeroes is found out."""
    with open(device, "r+b", buffering=0) as file:
        for at in range(0, file.seek(0, os.SEEK_END), 16 * MIB):
            file.seek(at)
            file.write(b"\xff" * (64 << 10))
        os.fsync(file)


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


def files_image(path, size):
    """What packs as a system disk does: files of this machine, one behind the other."""
    command = f"find /usr/lib -xdev -type f -print0 | sort -z | xargs -0 cat 2> /dev/null | head -c {size} > {path} || true"
    subprocess.run(["bash", "-c", command], check=True)
    with open(path, "r+b") as file:
        file.truncate(size)
    subprocess.run(["sync", path], check=True)


def qcow2(raw, options):
    """The path of a qcow2 image of the raw file's bytes."""
    path = f"{raw}.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", *options, raw, path], check=True)
    return path


def extents_image(path, data):
    """`data` random bytes in pieces of 64 KiB, followed by holes of 64 KiB and 256 KiB in turns; returns the size."""
    unit = 64 << 10
    size = data // (2 * unit) * 7 * unit
    with open(path, "wb") as file:
        file.truncate(size)
        for pair in range(0, size, 7 * unit):
            for at in (pair, pair + 2 * unit):
                file.seek(at)
                file.write(os.urandom(unit))
    subprocess.run(["sync", path], check=True)
    return size
