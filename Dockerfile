# The service, for a sidecar or a host. Builds with what Debian has; see docs/container.md for what a
# container needs of its host.
FROM debian:trixie-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev make nodejs npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN npm ci && npm prune --omit=dev --ignore-scripts

FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends nodejs \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sandgate
COPY --from=build /build/LICENSE /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist/src dist/src
COPY --from=build /build/native/build native/build
COPY --from=build /build/examples/node examples/node
# The socket's directory belongs to the service's user, so that a new volume mounted there does too.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin sandgate \
 && install -d -o sandgate -g sandgate -m 0700 /run/sandgate \
 && ln -s /opt/sandgate/dist/src/cli/main.js /usr/local/bin/sandgate
USER sandgate
STOPSIGNAL SIGTERM
ENTRYPOINT ["sandgate"]
CMD ["serve", "--listen", "unix:/run/sandgate/sandgate.sock"]
