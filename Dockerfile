# syntax=docker/dockerfile:1
# The labs in JupyterLab, set up as `make setup` does it anywhere; docker-compose.yml puts a Redis beside it.
FROM python:3.13-slim-bookworm AS lab

RUN apt-get update && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 lab && install -d -o lab -g lab /home/lab/.cache
WORKDIR /home/lab/redis-patterns-lab

# The notebooks are the reader's own: they are saved, and progress and caches are kept beside them.
COPY --chown=lab:lab . .
RUN chown lab:lab .

USER lab
# The packages of requirements.lock, with their hashes; nothing is installed when the lab starts.
RUN --mount=type=cache,target=/home/lab/.cache,uid=1000,gid=1000 make setup
# That cache is not in the image, and with it the list of fonts, which the first figure would make anew.
RUN .venv/bin/python -c 'import matplotlib.font_manager'

EXPOSE 8888
# All addresses inside the container; docker-compose.yml publishes the port on the loopback only.
CMD ["make", "lab", "BROWSER=no", "IP=0.0.0.0"]

# For a class, see docs/teaching.md: the hub, and what it starts for each learner. Nothing else builds this stage.
FROM lab AS class
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends node-configurable-http-proxy \
    && rm -rf /var/lib/apt/lists/* && install -d -o lab -g lab /home/lab/hub
USER lab
RUN --mount=type=cache,target=/home/lab/.cache,uid=1000,gid=1000 \
    .venv/bin/uv pip install --python .venv/bin/python --require-hashes --compile-bytecode -r jupyter/class.lock

# Without a target the lab is built.
FROM lab
