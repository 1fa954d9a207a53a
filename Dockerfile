# hcs-daemon in a container. The base image is a build argument, so that a site can take its own:
#   docker build --build-arg BASE=python:3.12-slim -t hcs-daemon .
# Run it with the folders and the settings mounted; the images read-only:
#   docker run -v /data/incoming:/data/incoming:ro -v /data/results:/data/results \
#       -v /etc/hcs-daemon:/etc/hcs-daemon:ro -p 9464:9464 hcs-daemon
ARG BASE=python:3.11-slim
FROM ${BASE}

WORKDIR /opt/hcs-daemon
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hcs_daemon ./hcs_daemon
RUN python -m pip install --no-cache-dir -c constraints.txt .

# the number is fixed, so that a folder can be given to it from outside: chown 10001 /data/results
RUN useradd --system --uid 10001 --create-home hcs-daemon
USER hcs-daemon

# inside a container 127.0.0.1 would answer nobody
ENV HCS_DAEMON__HTTP__HOST=0.0.0.0
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["hcs-daemon"]
CMD ["run", "-c", "/etc/hcs-daemon/config.toml"]
