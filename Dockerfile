# finetuner as a container: built from Debian packages, run as `jina executor` by docker://, Kubernetes and compose.
# tools/image_test.sh builds it without a Docker engine and tries all three.
FROM docker.io/library/debian:bookworm-slim AS build
WORKDIR /src
COPY tools/packages.sh tools/
RUN tools/packages.sh build
COPY . .
RUN cmake -G Ninja -B /build -DCMAKE_BUILD_TYPE=Release -DFT_TESTS=OFF \
 && ninja -C /build finetuner \
 && DESTDIR=/install cmake --install /build --prefix /usr --strip

FROM docker.io/library/debian:bookworm-slim
# What `ldd` says the program needs, no more.
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libdnnl2 libgrpc29 libjansson4 libyaml-0-2 \
    zlib1g libzip4 libjpeg62-turbo libpng16-16 libwebp7 libutf8proc2 libpcre2-8-0 libsqlite3-0 libssl3 libgomp1 libprotobuf-c1 libmicrohttpd12 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=build /install/usr /usr
# Not /app: docker:// and compose mount a folder of the host's there, over what the image has.
COPY config.yml /workdir/config.yml
RUN ln -s finetuner /usr/bin/jina && useradd --no-create-home --home-dir /workdir --uid 1000 finetuner \
 && mkdir /workdir/workspace && chown finetuner /workdir/workspace
WORKDIR /workdir
USER finetuner
EXPOSE 54321
VOLUME /workdir/workspace
# The port that this container was started with: docker:// gives any free one. With TLS or without: `jina ping` finds out.
# Where tls_client_ca is set it needs a certificate: FINETUNER_PING_CERT and FINETUNER_PING_KEY name its files.
HEALTHCHECK --interval=10s --timeout=5s \
    CMD port=$(tr '\0' '\n' </proc/1/cmdline | sed -n '/^--port$/{n;p;q};s/^--port=//p'); jina ping executor "127.0.0.1:${port:-54321}"
ENTRYPOINT ["jina", "executor", "--uses", "config.yml"]
