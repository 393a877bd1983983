"""A JupyterHub for a class, in the container `hub` of docker-compose.yml: a container for each learner.

docs/teaching.md says how it is used; the settings are environment variables.
"""

import os
import socket

import docker
import docker.errors

c = get_config()  # type: ignore[name-defined]  # noqa: F821 (JupyterHub puts it there)
CLASS = os.environ

for password, shortest in ("CLASS_PASSWORD", 8), ("TEACHER_PASSWORD", 32):
    if len(CLASS.get(password, "")) < shortest:
        raise SystemExit(
            f"{password} needs {shortest} characters or more. Set it in the shell or in .env; "
            "`openssl rand -hex 16` makes one."
        )

# The learners get the image and the network of this container, whatever Compose has called them.
try:
    here = docker.from_env().containers.get(socket.gethostname())
except docker.errors.DockerException as error:
    raise SystemExit(
        "No Docker engine answers at the socket that this container was given. Set DOCKER_SOCKET in the "
        "shell or in .env to where Docker listens; `docker context inspect` says where that is."
    ) from error
project = here.labels["com.docker.compose.project"]

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = CLASS["CLASS_PASSWORD"]
c.SharedPasswordAuthenticator.admin_password = CLASS["TEACHER_PASSWORD"]
c.Authenticator.admin_users = {"teacher"}
c.Authenticator.allowed_users = set(CLASS.get("CLASS_LEARNERS", "").split())
c.Authenticator.allow_all = not c.Authenticator.allowed_users

c.JupyterHub.hub_ip = "0.0.0.0"  # of the containers' network; only the proxy's port is published
c.JupyterHub.hub_connect_ip = "hub"
c.JupyterHub.spawner_class = "docker"
c.JupyterHub.log_level = "WARN"

c.Spawner.cmd = ["make", "lab", "BROWSER=no", "IP=0.0.0.0", "SERVER=jupyterhub.singleuser"]
c.Spawner.default_url = "/lab/tree/notebooks/course.md"
# A class comes at once, and each start needs a core for some seconds.
c.Spawner.start_timeout = c.Spawner.http_timeout = 600
if CLASS.get("CLASS_REDIS_URL"):
    c.Spawner.environment = {"REDIS_URL": CLASS["CLASS_REDIS_URL"]}

c.DockerSpawner.image = here.attrs["Config"]["Image"]
c.DockerSpawner.network_name = next(iter(here.attrs["NetworkSettings"]["Networks"]))
c.DockerSpawner.prefix = f"{project}-learner"
c.DockerSpawner.volumes = {
    f"{project}-learner-{{username}}": "/home/lab/redis-patterns-lab/notebooks"
}
c.DockerSpawner.remove = True  # what is kept is in the volume
c.DockerSpawner.mem_limit = CLASS.get("CLASS_MEMORY") or "2G"
c.DockerSpawner.cpu_limit = float(CLASS.get("CLASS_CPUS") or 1)
c.DockerSpawner.extra_host_config = {
    "memswap_limit": CLASS.get("CLASS_MEMORY") or "2G",  # no swap on top
    "pids_limit": int(CLASS.get("CLASS_PROCESSES") or 512),
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "init": True,
}
