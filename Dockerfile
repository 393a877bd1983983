# The labs in JupyterLab; docker-compose.yml puts a Redis beside it.
FROM python:3.13-slim-bookworm

RUN useradd --create-home lab
WORKDIR /home/lab/redis-patterns-lab

COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

# The reader's own: notebooks are saved, progress and caches are kept beside them.
COPY --chown=lab:lab . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . && chown lab:lab .

USER lab
RUN python -c "import matplotlib.font_manager"
ENV JUPYTER_CONFIG_PATH=jupyter
EXPOSE 8888
# All addresses inside the container; docker-compose.yml publishes the port on the loopback only.
CMD ["jupyter", "lab", "--no-browser", "--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888"]
