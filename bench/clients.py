"""The command lines of the clients that a case compares."""

import os

import services
from measure import Client, Command

OURS = "ours"
PEERS = {
    "curl": "a process for each connection, each writes its range of the target; then a sync",
    "curl-tee-sha512sum": "curl | tee target | sha512sum, then a sync: writes and verifies, as a script does",
    "curl-sha512sum": "curl | sha512sum, which stores nothing",
    "go": "io.Copy into the target, as Forklift's populators do; not durable at its end",
    "go-fsync": "the same and a sync",
    "curl-qemu-img": "curl into a file, qemu-img convert from there into the target, then a sync",
    "floor": "TLS, receive, direct write, sync, and nothing else",
    "ovirt-img": "oVirt's own client with its defaults, then a sync",
    "nbdcopy": "from qemu-nbd itself, without HTTP and TLS, then a sync",
}


class Missing(Exception):
    pass


def program(name):
    path = os.path.join(os.environ["POPULATOR_BIN_DIR"], name)
    if not os.access(path, os.X_OK):
        raise Missing(f"{path} is missing; `make bench` builds it")
    return path


def authority():
    with open(os.environ["SERVICES_CA"]) as file:
        return file.read()


def populate_image(at, target, *options):
    """openstack-populator with a token, as the other clients have one; it syncs by itself."""
    argv = [program("openstack-populator"), f"--endpoint={at.keystone}", f"--image-id={at.image}",
            f"--volume-path={target}", *options]
    env = {"authType": "token", "token": services.token(**services.USER), "projectName": "migrate",
           "domainName": "Default", "regionName": at.region, "cacert": authority()}
    return Client(OURS, [[Command(argv, env)]], target)


def populate_disk(disk, target, *options):
    """ovirt-populator; it syncs by itself."""
    argv = [program("ovirt-populator"), f"--engine-url={os.environ['ENGINE_URL']}",
            f"--disk-id={disk}", f"--volume-path={target}", *options]
    env = {"user": os.environ["ENGINE_USER"], "password": os.environ["ENGINE_PASSWORD"],
           "cacert": authority()}
    return Client(OURS, [[Command(argv, env)]], target)


def curl_argv(at):
    return ["curl", "-sS", "--fail", "--cacert", os.environ["SERVICES_CA"],
            "-H", f"X-Auth-Token: {services.token(**services.USER)}", at.url]


def curl(at, target, size, connections):
    """One curl per connection, each of which writes its range at its offset in the target, then a sync."""
    argv = curl_argv(at)
    if connections == 1:
        parts = [Command(argv, at=(target, 0))]
    else:
        step = size // connections
        starts = [number * step for number in range(connections)] + [size]
        parts = [Command([*argv, "-r", f"{start}-{end - 1}"], at=(target, start))
                 for start, end in zip(starts, starts[1:])]
    return Client("curl", [parts, sync(target)], target)


def curl_tee_sha512sum(at, target):
    """What a script does that writes and verifies: one stream into the target and into the hash, then a sync."""
    return Client("curl-tee-sha512sum", [
        [Command(curl_argv(at)), Command(["tee", target]), Command(["sha512sum"])], sync(target)],
        target, piped=True)


def curl_sha512sum(at):
    """Stores nothing: less work than ours."""
    return Client("curl-sha512sum", [[Command(curl_argv(at)), Command(["sha512sum"])]], piped=True)


def curl_qemu_img(at, target, scratch):
    """Downloads the image, and converts it: needs room for both."""
    return Client("curl-qemu-img", [
        [Command(curl_argv(at), at=(scratch, 0))],
        [Command(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-n" if target.startswith("/dev/") else "-q",
                  scratch, target])], sync(target)], target)


def go(at, target, fsync):
    """io.Copy as in Forklift's populators, which do not sync; `go-fsync` is the one whose bytes are durable."""
    argv = [program("go-copy"), "-ca", os.environ["SERVICES_CA"], *(["-fsync"] if fsync else []), at.url, target]
    return Client("go-fsync" if fsync else "go", [
        [Command(argv, {"X_AUTH_TOKEN": services.token(**services.USER)})]], target)


def floor(at, target, size, connections):
    """TLS, receive, direct write, sync, and nothing else (bench/floor)."""
    host, port = at.address
    argv = [program("floor"), os.environ["SERVICES_CA"], host, str(port), at.path, target, str(size),
            str(connections)]
    return Client("floor", [
        [Command(argv, {"X_AUTH_TOKEN": services.token(**services.USER)})]], target)


def ovirt_img(disk, target, zeroed):
    """oVirt's own client with its defaults (4 connections), then a sync. It writes no zeroes, and so leaves what a
    device held in the holes of a sparse disk; with `zeroed` the device is zeroed before, as a part of the job."""
    argv = [os.environ["OVIRT_IMG"], "download-disk", "--engine-url", os.environ["ENGINE_URL"],
            "--username", os.environ["ENGINE_USER"],
            "--password-file", os.environ["ENGINE_PASSWORD_FILE"],
            "--cafile", os.environ["SERVICES_CA"], "-f", "raw", disk, target]
    before = [[Command(["blkdiscard", "--zeroout", target])]] if zeroed else []
    return Client("ovirt-img", [*before, [Command(argv)], sync(target)], target)


def nbdcopy(url, target, size):
    """Reads from qemu-nbd itself: neither HTTP nor TLS, so a lower bound and no competitor."""
    make = [] if target.startswith("/dev/") else [[Command(["truncate", "-s", str(size), target])]]
    return Client("nbdcopy", [*make, [Command(["nbdcopy", url, target])], sync(target)], target)


def sync(target):
    return [Command(["sync", "--data", target])]
