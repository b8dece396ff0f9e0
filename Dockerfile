# The service as an image. No compiler, no pip and no root in what runs.
#   docker build --build-arg BASE_IMAGE=python@sha256:... --tag registry.example/oubliette .
# Pin BASE_IMAGE by digest to what you tested: any image with Python 3.11 or later and glibc.
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/bootstrap.txt requirements/
RUN python -m venv /opt/oubliette \
    && /opt/oubliette/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/bootstrap.txt
COPY pyproject.toml README.md LICENSE ./
COPY core core
COPY keys keys
COPY vault vault
COPY retention retention
COPY api api
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/oubliette/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl \
    && /opt/oubliette/bin/pip uninstall --yes pip

FROM ${BASE_IMAGE}
RUN groupadd --system --gid 10001 oubliette \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin oubliette \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/oubliette
COPY --from=build /opt/oubliette /opt/oubliette
# receiving audio makes large bytes objects: glibc keeps their pages (docs/operate.md)
ENV PATH=/opt/oubliette/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    OUBLIETTE_DATA_DIR=/var/lib/oubliette \
    OUBLIETTE_LISTEN_HOST=0.0.0.0 \
    OUBLIETTE_LISTEN_PORT=8080 \
    MALLOC_TRIM_THRESHOLD_=268435456 \
    MALLOC_MMAP_THRESHOLD_=33554432 \
    MALLOC_TOP_PAD_=16777216
USER 10001:10001
WORKDIR /var/lib/oubliette
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["oubliette"]
CMD ["serve"]
