"""volume_service.py --config-file FILE: Cinder's API, scheduler and volume service in one process, which pass messages in memory."""

from cinder import monkey_patch

monkey_patch.patch()

import shlex
import sys

import os_brick
from oslo_config import cfg
from oslo_log import log
from oslo_privsep import priv_context
import oslo_service.service

from cinder import coordination, objects, rpc, service, utils, version
from cinder.cmd import scheduler, volume
from cinder.common import config
from cinder.volume.drivers import remotefs

# Of a file that a server has open, Nova makes the snapshot. No server runs here, so that an attached volume's file is free.
remotefs.RemoteFSSnapDriverBase._is_volume_attached = lambda self, volume: False

CONF = cfg.CONF
assert scheduler  # its options are registered by the import

objects.register_all()
CONF(sys.argv[1:], project="cinder", version=version.version_string())
config.set_middleware_defaults()
log.setup(CONF, "cinder")
priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
os_brick.setup(CONF)
rpc.init(CONF)
coordination.COORDINATOR.start()

launcher = oslo_service.service.ServiceLauncher(CONF)
launcher.launch_service(service.Service.create(binary="cinder-scheduler"))
for backend in CONF.enabled_backends:
    CONF.register_opt(volume.host_opt, group=backend)
    launcher.launch_service(service.Service.create(
        host=f"{CONF.host}@{backend}", service_name=backend, binary="cinder-volume", coordination=True))
launcher.launch_service(service.WSGIService("osapi_volume"))
launcher.wait()
