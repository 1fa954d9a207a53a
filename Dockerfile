# hcs-daemon in a container; docs/install-container.md says how it is built and run, with and without a network:
#   docker build -t hcs-daemon .
#   docker build -t hcs-daemon:cuda --build-arg DEVICE=cuda .
#   docker build -t hcs-daemon --build-context wheelhouse=wheelhouse .
# To move to a newer base take its digest from: docker buildx imagetools inspect python:3.12-slim-bookworm
ARG BASE=python:3.12.14-slim-bookworm@sha256:0f5b26b9518d002b6173fd61daad821fa340635ebfec5bba471013f9ca114579

# empty, unless --build-context puts a wheelhouse in its place
FROM scratch AS wheelhouse

FROM ${BASE} AS build
# cpu, or cuda: PyTorch's wheels for it bring CUDA along, so that the base is the same and the host has the driver
ARG DEVICE=cpu
WORKDIR /opt/hcs-daemon
COPY bootstrap.py pyproject.toml constraints.txt README.md LICENSE ./
COPY hcs_daemon ./hcs_daemon
RUN --mount=type=bind,from=wheelhouse,target=/given \
    set -eu; \
    wheels=/given; \
    if [ ! -f /given/requirements.txt ]; then \
        wheels=/wheels; \
        case "$DEVICE" in \
            cpu) export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu ;; \
            cuda) ;; \
            *) echo "DEVICE is cpu or cuda, not $DEVICE" >&2; exit 2 ;; \
        esac; \
        PIP_NO_CACHE_DIR=1 python3 bootstrap.py wheelhouse "$wheels"; \
    fi; \
    python3 bootstrap.py install --wheelhouse "$wheels"
# what builds, and what only tests or compiles against the libraries, is not needed where they run
RUN .venv/bin/python3 -m pip uninstall --quiet --yes --root-user-action ignore setuptools pip \
    && cd .venv/lib/python3*/site-packages \
    && find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && rm -rf torch/test torch/bin/test_* torch/bin/protoc*

FROM ${BASE}
LABEL org.opencontainers.image.title="hcs-daemon" org.opencontainers.image.licenses="BSD-3-Clause"
# the numbers are fixed, so that a folder can be given to them from outside: chown 10001:10001 /data/results
RUN groupadd --gid 10001 hcs-daemon \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin hcs-daemon
COPY --from=build /opt/hcs-daemon/.venv /opt/hcs-daemon/.venv
# The root file system may be read-only: all caches go to /tmp. 127.0.0.1 would answer nobody outside, and the health
# check below has to know the port, whatever the settings file says.
ENV PATH=/opt/hcs-daemon/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    HCS_DAEMON__HTTP__HOST=0.0.0.0 \
    HCS_DAEMON__HTTP__PORT=9464
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
# /healthz and not /readyz: a share that is away is waited for, and no reason to start anew
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['HCS_DAEMON__HTTP__PORT'] + '/healthz', timeout=8)"]
ENTRYPOINT ["hcs-daemon"]
CMD ["run", "-c", "/etc/hcs-daemon/config.toml"]
