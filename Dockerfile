# docker build -t sitegate .
# docker run --read-only -v ./config:/etc/sitegate:ro -v sitegate:/var/lib/sitegate -p 443:443 sitegate
# The state directory is the user's nonroot (65532); an ordinary volume takes its owner from the image.

FROM rust:1-bookworm AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY docs docs
COPY lab lab
COPY migrations migrations
COPY src src
RUN cargo build --release --locked -p sitegate \
    && install -D target/release/sitegate /out/usr/local/bin/sitegate \
    && install -d -m 0700 /out/var/lib/sitegate

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder --chown=65532:65532 /out/ /
# 443 for clients, 9181 for metrics and health where the configuration lets them leave loopback.
EXPOSE 443 9181
VOLUME ["/var/lib/sitegate"]
ENV SITEGATE_CONFIG=/etc/sitegate/gateway.toml
# SIGTERM drains: give 'docker stop --time' more than limits.drain_time.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/sitegate", "health"]
USER nonroot
ENTRYPOINT ["/usr/local/bin/sitegate"]
CMD ["run"]
