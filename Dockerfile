# The one image of retinue: operator, gateway, agent, setup Job and command line in one wheel.
#
#   ./hack/images wheelhouse && docker build -t retinue:0.1.0 .      (podman and buildah take the same file)
#
# Nothing here uses the network: wheels are in dist/wheelhouse, made from requirements.lock with hash checks.
# BASE needs Python 3.11 with pip and the venv module. All stages use it, because the environment links its interpreter.
ARG BASE=python:3.11-slim-bookworm

# What rarely changes: an upgrade of retinue alone moves the small layer of the next stage only. The base's pip installs
# into the new environment, so that the image holds no second pip. Byte code is written now: at run time the file system
# is read-only.
FROM ${BASE} AS locked
COPY dist/wheelhouse/requirements.lock /wheelhouse/requirements.lock
COPY dist/wheelhouse/locked /wheelhouse/locked
RUN python3 -m venv --without-pip /opt/retinue \
 && python3 -m pip --python /opt/retinue install --quiet --no-cache-dir --no-index --no-deps --compile \
      --require-hashes --find-links /wheelhouse/locked -r /wheelhouse/requirements.lock

FROM locked AS project
COPY dist/wheelhouse/project /wheelhouse/project
RUN python3 -m pip --python /opt/retinue install --quiet --no-cache-dir --no-index --no-deps --compile \
      --target /opt/project /wheelhouse/project/*.whl \
 && PYTHONPATH=/opt/project /opt/project/bin/retinue --help >/dev/null

FROM ${BASE}
LABEL org.opencontainers.image.title="retinue" \
      org.opencontainers.image.description="Run AI assistants on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 retinue \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin retinue
COPY --from=locked /opt/retinue /opt/retinue
COPY --from=project /opt/project /opt/project
ENV PATH=/opt/project/bin:/opt/retinue/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/project \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
WORKDIR /
USER 10001:10001
ENTRYPOINT ["retinue"]
CMD ["--help"]
