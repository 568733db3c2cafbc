# Two images: `service` is pricer, queue and replica, `lab` is JupyterLab with the lessons. docker-compose.yml uses both.
ARG PYTHON=3.13

# What the kit needs changes seldom: these layers stay when only the kit itself changes.
FROM python:${PYTHON}-slim AS needs
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/scraperkit/bin:$PATH
RUN python -m venv /opt/scraperkit
WORKDIR /src
COPY locks/api.txt locks/lab.txt locks/
RUN pip install --require-hashes --requirement locks/api.txt

FROM needs AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY data/sample data/sample
COPY scraperkit scraperkit
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM needs AS build-service
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --no-index /wheels/*.whl

FROM needs AS build-lab
RUN pip install --require-hashes --requirement locks/lab.txt
COPY --from=wheel /wheels /wheels
# Some lessons kill a Redis of their own; where there is no binary for this machine, they say so.
RUN pip install --no-deps --no-index /wheels/*.whl \
    && mkdir /opt/scraperkit/cache \
    && { SCRAPERKIT_CACHE=/opt/scraperkit/cache python -m scraperkit.embedded.install || true; }

FROM python:${PYTHON}-slim AS runtime
RUN groupadd --gid 10001 scraperkit \
    && useradd --uid 10001 --gid scraperkit --create-home --shell /usr/sbin/nologin scraperkit
# Everything is compiled already, and the root file system is read-only: only /tmp and volumes are written to.
ENV PATH=/opt/scraperkit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /home/scraperkit
USER 10001:10001

FROM runtime AS lab
ENV SCRAPERKIT_CACHE=/opt/scraperkit/cache JUPYTER_RUNTIME_DIR=/tmp/jupyter
COPY --from=build-lab /opt/scraperkit /opt/scraperkit
COPY --chown=10001:10001 notebooks notebooks
EXPOSE 8888
CMD ["jupyter", "lab", "--ip", "0.0.0.0", "--port", "8888", "--no-browser"]

FROM runtime AS service
COPY --from=build-service /opt/scraperkit /opt/scraperkit
EXPOSE 8000
CMD ["scraperkit", "--help"]
