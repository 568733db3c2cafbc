# Two images: `service` is pricer, queue and replica, `lab` is JupyterLab with the lessons. docker-compose.yml uses both.
# The kit comes last, in its own layer: a change to it rebuilds and downloads nothing else.
ARG PYTHON=3.13

# What the kit needs.
FROM python:${PYTHON}-slim AS needs
RUN groupadd --gid 10001 scraperkit \
    && useradd --uid 10001 --gid scraperkit --create-home --shell /usr/sbin/nologin scraperkit \
    && install --directory --owner scraperkit --group scraperkit /archive
# Everything is compiled already, and the root file system is read-only: only /tmp and volumes are written to.
ENV PATH=/opt/scraperkit/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib
# With system packages, pip may also install into the user's home, which is a volume: see docs/service.md.
RUN python -m venv --system-site-packages /opt/scraperkit
COPY locks/api.txt /opt/scraperkit/locks/
RUN pip install --require-hashes --requirement /opt/scraperkit/locks/api.txt
WORKDIR /home/scraperkit

FROM needs AS kit
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY data/sample data/sample
COPY scraperkit scraperkit
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip install --no-deps --no-index --root /kit /wheels/*.whl

# Some lessons kill a Redis of their own; without a binary for this machine, they say so. Only these files decide
# what is downloaded.
FROM needs AS redis
WORKDIR /src
ENV SCRAPERKIT_CACHE=/opt/redis
COPY scraperkit/__init__.py scraperkit/config.py scraperkit/errors.py scraperkit/keys.py scraperkit/text.py scraperkit/
COPY scraperkit/embedded/__init__.py scraperkit/embedded/install.py scraperkit/embedded/state.py scraperkit/embedded/
RUN mkdir /opt/redis && if [ "$(uname -m)" = x86_64 ]; then python -m scraperkit.embedded.install; fi

FROM needs AS lab
COPY locks/lab.txt /opt/scraperkit/locks/
RUN pip install --require-hashes --requirement /opt/scraperkit/locks/lab.txt
COPY --from=redis /opt/redis /opt/redis
COPY deploy/lab/start.sh /opt/lab/
COPY notebooks /opt/lab/notebooks
COPY --from=kit /kit /
ENV SCRAPERKIT_CACHE=/opt/redis JUPYTER_RUNTIME_DIR=/tmp/jupyter PATH=$PATH:/home/scraperkit/.local/bin
USER 10001:10001
EXPOSE 8888
ENTRYPOINT ["/opt/lab/start.sh"]
CMD ["jupyter", "lab", "--ip", "0.0.0.0", "--port", "8888", "--no-browser"]

FROM needs AS service
COPY --from=kit /kit /
USER 10001:10001
CMD ["scraperkit", "--help"]
