"""The cases of the bench: source, target and clients of each copy."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial

import clients
import cloud
import counts
import services

GIB = 1 << 30
OFF = "--verify=off"


@dataclass(frozen=True)
class Spec:
    """`about` is for people. `disk` is dense, sparse, extents or a key of PACKED; `connections` are those of the peers that can
    have several; `options` are ours beside source and target, so without any we run as users do. `server` is which
    one of `cloud.Cloud` the image is read from, None for imageio."""

    about: str
    disk: str
    target: str
    peers: tuple
    options: tuple = ()
    connections: int = 1
    server: str | None = None


def unverified(about, target, connections):
    return Spec(about, "dense", target, ("curl", "go", "go-fsync", "floor"),
                (OFF, f"--connections={connections}"), connections, "plain")


def default(about, target, server, peers=("curl-tee-sha512sum", "curl-sha512sum", "go-fsync")):
    return Spec(about, "dense", target, peers, (), 4, server)


def qcow2(about, disk):
    return Spec(about, disk, "file", ("curl-qemu-img",), ("--connections=4",), 4, "plain")


def imageio(about, disk, target, verify=OFF, peers=("ovirt-img", "nbdcopy")):
    return Spec(about, disk, target, peers, (verify, "--connections=4"))


GBIT = ("curl", "floor")
FAR = ("curl", "curl-tee-sha512sum", "floor")
SPECS = {
    "https-file-1": unverified("one connection, not verified, into a file", "file", 1),
    "https-file-4": unverified("4 connections, not verified, into a file", "file", 4),
    "https-block-1": unverified("one connection, not verified, into a device", "block", 1),
    "https-block-4": unverified("4 connections, not verified, into a device", "block", 4),
    "https-default-4": default("default options: 4 connections, verified; into a file", "file", "plain"),
    "https-default-block-4": default("the same into a device", "block", "plain"),
    "https-ordered": Spec("a store without ranges, not verified, into a file", "dense", "file",
                          ("curl", "go-fsync", "floor"), (OFF,), 1, "ordered"),
    "https-ordered-default": default("a store without ranges, default options, into a file", "file", "ordered"),
    "https-uncached-4": default("default options, and a Glance that asks Keystone about the token of every request", "file",
                                "uncached", ("curl-tee-sha512sum",)),
    "qcow2-file": qcow2("the disk of a qcow2 image, random bytes, into a file", "qcow2"),
    "qcow2-zlib-file": qcow2("the same with clusters that zlib has packed", "qcow2-zlib"),
    "qcow2-zstd-file": qcow2("the same with clusters that Zstandard has packed", "qcow2-zstd"),
    "wan-4-20ms": default("default options, and a cloud that is 20 ms away", "file", "20ms", FAR),
    "wan-4-50ms": default("default options, and a cloud that is 50 ms away", "file", "50ms", FAR),
    "gbit-4-1ms": default("default options, and a link of 1 Gbit/s with a round trip of 1 ms", "file", "1ms 1000Mbit", GBIT),
    "gbit-4-50ms": default("the same with 50 ms", "file", "50ms 1000Mbit", GBIT),
    "imageio-dense-file": imageio("a disk without holes, into a file", "dense", "file"),
    "imageio-dense-block": imageio("the same into a device", "dense", "block"),
    "imageio-sparse-file": imageio("ten times as large, data in pieces of 64 KiB to 8 MiB, into a file", "sparse", "file"),
    "imageio-sparse-block": imageio("the same into a device that is not empty", "sparse", "block"),
    "imageio-extents-file": imageio("data in pieces of 64 KiB, holes of 64 and 256 KiB, into a file", "extents", "file"),
    "imageio-verify-full": imageio("dense, compared with imageio's checksum, which the peer does not do", "dense", "file",
                                   "--verify=full", ("ovirt-img",)),
}
NAMES = list(SPECS)
PACKED = {"qcow2": [], "qcow2-zlib": ["-c"], "qcow2-zstd": ["-c", "-o", "compression_type=zstd"]}


@dataclass
class Case:
    """`clients` are functions that return a Client for one run; the first is ours. All do the same job: `size` bytes
    from `source` to `target`, of which `moved` are data. `counter` counts what one run asks for."""

    name: str
    source: str
    target: str
    size: int
    moved: int
    clients: dict
    counter: object


def matching(patterns):
    """The names that match one of the patterns; an error names a pattern without a case."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in NAMES):
            raise ValueError(f"no case {pattern!r}; there are {', '.join(NAMES)}")
    return [name for name in NAMES if any(fnmatchcase(name, pattern) for pattern in patterns)]


def prepare(names, size, folder, stack: ExitStack):
    """The cases of these names. Servers and devices that they need live as long as the stack."""
    specs = [SPECS[name] for name in names]
    disks = {kind: make_disk(kind, size, folder) for kind in sorted({spec.disk for spec in specs})}
    devices = {}
    for spec in specs:
        if spec.target == "block" and spec.disk not in devices:
            devices[spec.disk] = stack.enter_context(services.block_device(
                os.path.join(folder, f"{spec.disk}.volume"), disks[spec.disk][1], spec.disk == "dense"))
    servers = {spec.server for spec in specs if spec.server}
    image_service = None
    if servers:
        first = next(spec.disk for spec in specs if spec.server)
        plain, _ = disks.get("dense", disks[first])
        image_service = stack.enter_context(cloud.running(servers, plain, folder))
        packed = {kind: cloud.upload(services.qcow2(disks[kind][0], PACKED[kind]), "qcow2")
                  for kind in disks if kind in PACKED}
    daemon, engine_disks, exports = None, {}, {}
    for spec in specs:
        if spec.server is None and spec.disk not in engine_disks:
            daemon = daemon or counts.Imageio()
            source = disks[spec.disk][0]
            engine_disks[spec.disk] = services.add_disk(source)
            exports[spec.disk] = stack.enter_context(services.nbd_server(source, folder))

    cases = []
    for name, spec in zip(names, specs):
        source, whole = disks[spec.disk]
        target = devices[spec.disk] if spec.target == "block" else os.path.join(folder, "target.raw")
        if spec.server:
            at, counter = image_service.at[spec.server], image_service.counter
            if spec.disk in PACKED:
                at = replace(at, image=packed[spec.disk])
            made = {
                clients.OURS: partial(clients.populate_image, at, target, *spec.options),
                "curl": partial(clients.curl, at, target, whole, spec.connections),
                "curl-tee-sha512sum": partial(clients.curl_tee_sha512sum, at, target),
                "curl-sha512sum": partial(clients.curl_sha512sum, at),
                "curl-qemu-img": partial(clients.curl_qemu_img, at, target, os.path.join(folder, "scratch.qcow2")),
                "go": partial(clients.go, at, target, False),
                "go-fsync": partial(clients.go, at, target, True),
                "floor": partial(clients.floor, at, target, whole, spec.connections),
            }
        else:
            disk, counter = engine_disks[spec.disk], daemon
            holes_on_device = spec.target == "block" and spec.disk != "dense"
            made = {
                clients.OURS: partial(clients.populate_disk, disk, target, *spec.options),
                "ovirt-img": partial(clients.ovirt_img, disk, target, holes_on_device),
                "nbdcopy": partial(clients.nbdcopy, exports[spec.disk], target, whole),
            }
        chosen = {each: made[each] for each in (clients.OURS, *spec.peers)}
        cases.append(Case(name, source, target, whole, size, chosen, counter))
    return cases


def make_disk(kind, data, folder):
    """(path, size) of a file with so many bytes of data."""
    path = os.path.join(folder, f"{kind}.raw")
    if kind in ("dense", "qcow2"):
        services.dense_image(path, data)
        return path, data
    if kind in PACKED:
        services.files_image(path, data)
        return path, data
    if kind == "sparse":
        services.sparse_image(path, 10 * data, data)
        return path, 10 * data
    return path, services.extents_image(path, data)
