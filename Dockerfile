# The trainer: docker build --build-arg EXTRA=cuda -t fgmm . (EXTRA: cuda, tpu, or none for the CPU)
#   docker run --rm --gpus all --shm-size 8g -v DATA:/data:ro -v RUNS:/runs fgmm \
#       --config=configs/quickstart.py --workdir=/runs/quickstart
# With --user=$(id -u):$(id -g) what it writes to /runs is yours.
FROM python:3.11-slim

ARG EXTRA=""
WORKDIR /fgmm

# Dependencies have a layer of their own, which a change of the code leaves alone.
COPY setup.py pyproject.toml README.md constraints.txt ./
COPY fgmm/__init__.py fgmm/__init__.py
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".${EXTRA:+[$EXTRA]}"

COPY fgmm fgmm
COPY configs configs

# The compilation cache is in $HOME/.cache: kept with the runs, whoever runs the container.
RUN useradd --uid 1000 --no-create-home --home-dir /runs fgmm \
    && mkdir --mode=1777 /data /runs
ENV HOME=/runs PYTHONDONTWRITEBYTECODE=1
USER 1000
VOLUME ["/data", "/runs"]

ENTRYPOINT ["python", "-m", "fgmm.main"]
