# The echo server: docker build -t echofactory . && docker run -p 7007:7007 echofactory
FROM python:3.13-slim-bookworm

WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY echofactory echofactory
COPY twisted twisted
# The second command writes Twisted's list of plugins, which the user below cannot.
RUN pip install --no-cache-dir . && twistd multiecho --version

WORKDIR /
# By number, so that an orchestrator sees that it is not root.
USER 65534:65534
EXPOSE 7007

# No shell between, so that a stop reaches the server, which then drains.
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "multiecho"]
# Every interface: a container's loopback is its own, and -p does not lead there.
CMD ["--trace", "none", "--listen", "tcp:7007"]
