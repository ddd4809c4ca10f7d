# finetuner as a container: built from Debian packages, run as `jina executor` by docker://, Kubernetes and compose.
FROM docker.io/library/debian:bookworm-slim AS build
COPY . /src
WORKDIR /src
RUN tools/packages.sh build \
 && cmake -G Ninja -B /build -DCMAKE_BUILD_TYPE=Release -DFT_TESTS=OFF \
 && ninja -C /build finetuner \
 && DESTDIR=/install cmake --install /build --prefix /usr --strip

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libdnnl2 libgrpc29 libjansson4 libyaml-0-2 \
    zlib1g libzip4 libjpeg62-turbo libpng16-16 libwebp7 libutf8proc2 libpcre2-8-0 libsqlite3-0 libssl3 libgomp1 libprotobuf-c1 libmicrohttpd12 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /install/usr /usr
COPY config.yml /app/config.yml
RUN ln -s finetuner /usr/bin/jina && useradd --create-home --uid 1000 finetuner && mkdir -p /app/workspace \
 && chown finetuner /app/workspace
WORKDIR /app
USER finetuner
EXPOSE 54321
VOLUME /app/workspace
HEALTHCHECK --interval=10s --timeout=5s CMD finetuner ping 127.0.0.1:54321
ENTRYPOINT ["jina", "executor", "--uses", "config.yml"]
