# The echo server, and the client:
#   docker build -t echofactory .
#   docker run -p 7007:7007 echofactory
#   docker run --no-healthcheck echofactory client 192.0.2.7 7007
FROM python:3.13-slim-bookworm AS build

WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY echofactory echofactory
COPY share share
COPY twisted twisted
# The last command writes Twisted's list of plugins. The user below cannot write it.
RUN python -m venv /opt/echofactory \
    && /opt/echofactory/bin/pip install --no-cache-dir . \
    && /opt/echofactory/bin/twistd multiecho --version

FROM python:3.13-slim-bookworm

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="echofactory" \
    org.opencontainers.image.description="An echo server, and a client that measures the path to it." \
    org.opencontainers.image.source="https://github.com/echofactory/echofactory" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/echofactory /opt/echofactory
ENV PATH=/opt/echofactory/bin:$PATH

# A number, so that an orchestrator can check that the user is not root.
USER 65534:65534
EXPOSE 7007

# One message has to come back. A check takes 0.6 s of processor time, which is 1 % of a core.
HEALTHCHECK --interval=60s --timeout=20s --start-period=10s --retries=2 \
    CMD ["echofactory", "client", "127.0.0.1", "7007", "1", "--count", "1", "--connect-timeout", "5s", "--reply-timeout", "5s", "--quiet"]

# Without a shell, the signal of a stop reaches the server, which then drains.
ENTRYPOINT ["echofactory"]
# On every interface, because -p does not reach the loopback interface of a container.
# Strangers can reach a server that is left running. If no peer reads, 10,000 connections take at
# most 1.3 GB of the process. A forgotten connection becomes free. There is no limit for each host,
# because all clients can have the address of the engine's gateway.
CMD ["serve", "--trace", "none", "--listen", "tcp:7007", "--max-connections", "10000", "--idle-timeout", "10m"]
