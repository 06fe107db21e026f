# syntax=docker/dockerfile:1
# Never built so far: no base image could be had where this was written. What was done: hadolint finds nothing, and
# docker/start.py is tested. See docs/container.md.
#
#     docker build -t gemma-captioner .
#     docker run --rm --gpus all -v "$PWD/dataset:/data" -v gemma-captioner:/cache gemma-captioner caption /data

# PyTorch brings CUDA's libraries itself and the host its driver's: of the base little is needed.
ARG CUDA=12.8.1
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04

# Versions of Ubuntu's packages are not pinned: its mirrors drop one when the next is out.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1001 --create-home captioner \
    && install --directory --mode=1777 /cache /data

WORKDIR /opt/gemma-captioner
COPY constraints.txt pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c constraints.txt ".[server,quantize,scenes,export,review]"
COPY docker/start.py ./

# Models, and the review page's pictures. A token is given when it runs (-e HF_TOKEN), never when it is built.
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1
VOLUME /cache
USER 1001
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["tini", "--", "python3", "/opt/gemma-captioner/start.py"]
