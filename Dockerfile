# The server's images: `docker build --target cpu .` (or cuda, or demo: the client that streams a clip for ever).
# What is installed is pinned by constraints.txt; nothing is compiled, and neither pip nor a compiler is in the result.

# Wheels to prefer over the index, if an image with any is named; by default there are none.
ARG WHEELS=scratch
FROM ${WHEELS} AS wheels

FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv --without-pip /opt/tilestream
WORKDIR /src
COPY constraints.txt deploy/trim.sh ./

FROM build AS torch-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,from=wheels,target=/wheels \
    python3 -m pip --python /opt/tilestream/bin/python install -c constraints.txt \
    --index-url "$TORCH_INDEX" --find-links /wheels torch

# The default index has the build with CUDA's libraries; the driver comes from the host.
FROM build AS torch-cuda
RUN python3 -m pip --python /opt/tilestream/bin/python install -c constraints.txt torch

FROM torch-cpu AS build-cpu
COPY server server
RUN python3 -m pip --python /opt/tilestream/bin/python install -c constraints.txt './server[otel]'
# The second command shows that nothing is missing.
RUN ./trim.sh /opt/tilestream && /opt/tilestream/bin/tilestream models

FROM torch-cuda AS build-cuda
COPY server server
RUN python3 -m pip --python /opt/tilestream/bin/python install -c constraints.txt './server[otel,cuda]'
# The last command shows that torchvision, whose JPEG decoder is the GPU's, belongs to this PyTorch.
RUN ./trim.sh /opt/tilestream && /opt/tilestream/bin/tilestream models && \
    /opt/tilestream/bin/python -c "import torchvision.io"

# The street and the client: no server, no PyTorch.
FROM build AS build-demo
COPY street street
COPY client/python client/python
RUN python3 -m pip --python /opt/tilestream/bin/python install -c constraints.txt ./street ./client/python
RUN ./trim.sh /opt/tilestream

FROM python:3.11-slim AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /tmp tilestream
ENV PATH=/opt/tilestream/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TILESTREAM_HOST=0.0.0.0 TILESTREAM_PORT=50051 \
    TILESTREAM_METRICS_HOST=0.0.0.0 TILESTREAM_METRICS_PORT=9000 TILESTREAM_LOG_FORMAT=json
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 9000
# It listens on all of the container's addresses: `docker run` has to say who may call, TILESTREAM_TOKEN_FILE or the
# like, or TILESTREAM_ALLOW_ANONYMOUS=true where the port is published to trusted callers only.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=10s --start-period=120s --retries=3 \
    CMD ["tilestream", "health", "--server", "127.0.0.1:50051"]
ENTRYPOINT ["tilestream"]
CMD ["serve"]

FROM runtime AS cuda
COPY --from=build-cuda /opt/tilestream /opt/tilestream
# For the NVIDIA container toolkit, which brings the driver in; "utility" has NVML, for the device's metrics, and
# "video" the hardware's decoders.
ENV TILESTREAM_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video

FROM runtime AS demo
COPY --from=build-demo /opt/tilestream /opt/tilestream
COPY deploy/demo_client.py /opt/tilestream/demo_client.py
HEALTHCHECK NONE
ENTRYPOINT ["python", "/opt/tilestream/demo_client.py"]
CMD []

# Last, so that it is what a build without --target gives.
FROM runtime AS cpu
COPY --from=build-cpu /opt/tilestream /opt/tilestream
