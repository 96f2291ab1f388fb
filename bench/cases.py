"""The cases of the bench: client, source and target of each copy."""

import os
from contextlib import ExitStack
from dataclasses import dataclass

import services
from measure import Client, Command

GIB = 1 << 30
HTTPS = ("https-file-1", "https-file-4", "https-block-1", "https-block-4", "https-verify-4")
IMAGEIO = ("imageio-dense-file", "imageio-dense-block", "imageio-sparse-file")
NAMES = HTTPS + IMAGEIO
OURS = "ours"
REGION = "RegionBench"


@dataclass
class Case:
    """`clients` do the same job; the first is ours. `moved` bytes of data are in `source`."""

    name: str
    source: str
    size: int
    moved: int
    clients: list


def prepare(names, size, folder, stack: ExitStack):
    """The cases of these names. Servers and devices that they need live as long as the stack."""
    needs = {need for name in names for need in name.split("-")}
    dense, sparse = os.path.join(folder, "dense.raw"), os.path.join(folder, "sparse.raw")
    target = os.path.join(folder, "target.raw")
    if needs & {"https", "dense"}:
        services.dense_image(dense, size)
    device = None
    if "block" in needs:
        device = stack.enter_context(
            services.block_device(os.path.join(folder, "volume"), size))
    cases = []
    if "https" in needs:
        url = stack.enter_context(services.tls_in_front_of(os.environ["GLANCE_URL"], folder))
        services.add_region(REGION, url)
        image = services.upload(dense)
        services.warm_up(url)
        for name in (each for each in names if each in HTTPS):
            _, kind, connections = name.split("-")
            to = device if kind == "block" else target
            cases.append(Case(name, dense, size, size, [
                populate_image(image, to, connections, "auto" if kind == "verify" else "off"),
                curl(url, image, to, size, int(connections), kind == "verify")]))
    if "imageio" in needs:
        for name in (each for each in names if each in IMAGEIO):
            is_sparse, to = "sparse" in name, device if "block" in name else target
            source, whole = (sparse, 10 * size) if is_sparse else (dense, size)
            if is_sparse:
                services.sparse_image(sparse, whole, size)
            disk = services.add_disk(source)
            nbd = stack.enter_context(services.nbd_server(source, folder))
            cases.append(Case(name, source, whole, size, [
                populate_disk(disk, to), ovirt_img(disk, to), nbdcopy(nbd, to, whole)]))
    return cases


def authority():
    with open(os.environ["SERVICES_CA"]) as file:
        return file.read()


def program(name):
    return os.path.join(os.environ["POPULATOR_BIN_DIR"], name)


def populate_image(image, target, connections, verify):
    """openstack-populator with a token, as curl has one; it syncs by itself."""
    argv = [program("openstack-populator"), f"--endpoint={os.environ['KEYSTONE_TLS_URL']}",
            f"--image-id={image}", f"--volume-path={target}", f"--connections={connections}",
            f"--verify={verify}"]
    env = {"authType": "token", "token": services.token(**services.USER), "projectName": "migrate",
           "domainName": "Default", "regionName": REGION, "cacert": authority()}
    return Client(OURS, [[Command(argv, env)]], target)


def populate_disk(disk, target):
    """ovirt-populator, with its 4 connections; it syncs by itself."""
    argv = [program("ovirt-populator"), f"--engine-url={os.environ['ENGINE_URL']}",
            f"--disk-id={disk}", f"--volume-path={target}", "--connections=4", "--verify=off"]
    env = {"user": os.environ["ENGINE_USER"], "password": os.environ["ENGINE_PASSWORD"],
           "cacert": authority()}
    return Client(OURS, [[Command(argv, env)]], target)


def curl(url, image, target, size, connections, hashed):
    """One curl per connection, each of which writes its range at its offset in the target, then a sync. For a
    hash, one curl into sha512sum, which stores nothing: less work than ours, which writes and syncs a file."""
    secret = services.token(**services.USER)
    argv = ["curl", "-sS", "--fail", "--cacert", os.environ["SERVICES_CA"],
            "-H", f"X-Auth-Token: {secret}", f"{url}/v2/images/{image}/file"]
    if hashed:
        return Client("curl", [[Command(argv), Command(["sha512sum"])]], piped=True)
    if connections == 1:
        parts = [Command(argv, at=(target, 0))]
    else:
        step = size // connections
        starts = [number * step for number in range(connections)] + [size]
        parts = [Command([*argv, "-r", f"{start}-{end - 1}"], at=(target, start))
                 for start, end in zip(starts, starts[1:])]
    return Client("curl", [parts, sync(target)], target)


def ovirt_img(disk, target):
    """oVirt's own client with its defaults (4 connections), then a sync."""
    argv = [os.environ["OVIRT_IMG"], "download-disk", "--engine-url", os.environ["ENGINE_URL"],
            "--username", os.environ["ENGINE_USER"],
            "--password-file", os.environ["ENGINE_PASSWORD_FILE"],
            "--cafile", os.environ["SERVICES_CA"], "-f", "raw", disk, target]
    return Client("ovirt-img", [[Command(argv)], sync(target)], target)


def nbdcopy(url, target, size):
    """Reads from qemu-nbd itself: neither HTTP nor TLS, so a lower bound and no competitor."""
    make = [] if target.startswith("/dev/") else [[Command(["truncate", "-s", str(size), target])]]
    return Client("nbdcopy", [*make, [Command(["nbdcopy", url, target])], sync(target)], target)


def sync(target):
    return [Command(["sync", "--data", target])]
