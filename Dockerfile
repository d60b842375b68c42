# syntax=docker/dockerfile:1
# The service with its default model. It listens on every address, so it wants API keys (`gsop key`):
#     docker run --gpus all -p 8000:8000 -e GSOP_API_KEYS=ENTRY gsop
# or, for this machine alone, -p 127.0.0.1:8000:8000 -e GSOP_ALLOW_ANONYMOUS=true
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv/gsop

# The dependencies alone first: this layer is built again only when they change.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app/gsop/__init__.py app/gsop/__init__.py
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --quiet --no-cache-dir uv \
 && /opt/venv/bin/uv pip install --quiet --no-cache --python /opt/venv/bin/python \
        -c constraints.txt --compile-bytecode -e ".[grpc,heif,remote,shared]"

# What is inside, as CycloneDX; the tool that tells of it leaves nothing behind.
COPY deploy/bom.py deploy/bom.py
RUN /opt/venv/bin/uv tool run --quiet --no-cache -c constraints.txt --from cyclonedx-bom \
        python deploy/bom.py --environment /opt/venv/bin/python --output bom.cdx.json

COPY app app
COPY model_store model_store
RUN useradd --no-create-home --uid 10001 gsop \
 && /opt/venv/bin/python -m compileall -q app

# Nothing is written at run time: works with `docker run --read-only`. The user as a number, so that
# Kubernetes can see that it is not root.
USER 10001:10001
ENV PATH=/opt/venv/bin:$PATH GSOP_HOST=0.0.0.0 GSOP_PORT=8000 GSOP_MODEL_STORE=/srv/gsop/model_store
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, ssl, urllib.request as u; tls = os.environ.get('GSOP_TLS_CERTFILE'); u.urlopen(f\"http{'s' if tls else ''}://127.0.0.1:{os.environ['GSOP_PORT']}/healthz\", timeout=4, context=ssl._create_unverified_context() if tls else None)"]
CMD ["gsop", "serve"]
