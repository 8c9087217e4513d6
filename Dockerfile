# One image for every part; docker-compose.yml says which service runs what.
FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/tickwire
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY requirements-image.lock ./
RUN /opt/tickwire/bin/pip install --require-hashes --no-deps -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY hub hub
COPY feeds feeds
COPY gateway gateway
RUN /opt/tickwire/bin/pip install --no-deps --no-build-isolation . \
    && /opt/tickwire/bin/pip uninstall --yes setuptools pip

FROM python:3.11-slim-bookworm
RUN useradd --system --create-home --home-dir /srv/tickwire tickwire && install -d -o tickwire /archive
COPY --from=build /opt/tickwire /opt/tickwire
ENV PATH=/opt/tickwire/bin:$PATH PYTHONUNBUFFERED=1
USER tickwire
WORKDIR /srv/tickwire
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["python", "-m", "gateway"]
