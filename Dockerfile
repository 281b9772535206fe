# The echo server: docker build -t echofactory . && docker run -p 7007:7007 echofactory
FROM python:3.13-slim-bookworm

WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY echofactory echofactory
COPY share share
COPY twisted twisted
# The second command writes Twisted's list of plugins. The user below cannot write it.
RUN pip install --no-cache-dir . && twistd multiecho --version

WORKDIR /
# A number, so that an orchestrator can check that the user is not root.
USER 65534:65534
EXPOSE 7007

# Without a shell, the signal of a stop reaches the server, which then drains.
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "multiecho"]
# On every interface, because -p does not reach the loopback interface of a container.
CMD ["--trace", "none", "--listen", "tcp:7007"]
