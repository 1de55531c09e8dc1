# syntax=docker/dockerfile:1

FROM rust:1.95.0-slim-bookworm AS build
# Use the compiler of this image; rust-toolchain.toml would also install clippy and rustfmt.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
# The cache mounts keep compiled dependencies between builds. Cargo compares modification times, and a file from
# git may be older than the cached build, so `touch` forces a rebuild of this package.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    touch src/lib.rs src/main.rs \
    && cargo build --release --locked \
    && cp target/release/image2model-gateway /usr/local/bin/

# Contains no shell and no package manager; `nonroot` is user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="image2model-gateway" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /usr/local/bin/image2model-gateway /usr/local/bin/
COPY config/production.toml /etc/image2model-gateway/
ENV I2M__SERVER__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/image2model-gateway", "--config", "/etc/image2model-gateway/production.toml", "health"]
ENTRYPOINT ["/usr/local/bin/image2model-gateway", "--config", "/etc/image2model-gateway/production.toml"]
