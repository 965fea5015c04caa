# docker build -t glc . && docker run --rm -v "$PWD":/data -w /data glc encode photo.jpg photo.glc
FROM python:3.11-slim
WORKDIR /src
COPY . .
# PyTorch without CUDA, a tenth of the size; leave the first line out for GPUs.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir .
ENTRYPOINT ["glc"]
