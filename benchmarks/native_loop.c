/* The timing loop of the worker on the C API of ONNX Runtime: what profiling_native.py compares the worker with.
 *
 * native_loop LIBRARY MODEL INPUTS THREADS
 *
 * INPUTS holds the number of inputs on a line; then for each a line "NAME TYPE BYTES RANK SIZE ..." and its bytes.
 * It says "ready" with at most 512 values of the first output. Each line "N" it then answers with the nanoseconds of
 * N calls; the end of its input ends it. */

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <onnxruntime_c_api.h>

enum { LARGEST_NAME = 1023, LARGEST_RANK = 8, OUTPUT_VALUES = 512 };

static const OrtApi *ort;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void check(OrtStatus *status, const char *what) {
    if (status != NULL) fail(what, ort->GetErrorMessage(status));
}

static const OrtApi *api_of(const char *library) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) fail("dlopen", dlerror());
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(handle, "OrtGetApiBase");
    if (base == NULL) fail("dlsym", dlerror());
    const OrtApi *api = base()->GetApi(ORT_API_VERSION);
    if (api == NULL) fail("GetApi", "the library is older than the header");
    return api;
}

/* As the worker sets it; what is not set here has the same default there. */
static OrtSessionOptions *options_of(int threads) {
    OrtSessionOptions *options;
    check(ort->CreateSessionOptions(&options), "CreateSessionOptions");
    check(ort->SetIntraOpNumThreads(options, threads), "SetIntraOpNumThreads");
    check(ort->SetInterOpNumThreads(options, 1), "SetInterOpNumThreads");
    check(ort->SetSessionLogSeverityLevel(options, 3), "SetSessionLogSeverityLevel");
    return options;
}

static void bind_inputs(OrtIoBinding *binding, const OrtMemoryInfo *memory, const char *path) {
    FILE *file = fopen(path, "rb");
    int inputs;
    if (file == NULL || fscanf(file, "%d", &inputs) != 1) fail(path, "cannot be read");
    for (int i = 0; i < inputs; i++) {
        char name[LARGEST_NAME + 1];
        int type, rank;
        int64_t shape[LARGEST_RANK];
        long long bytes, size;
        if (fscanf(file, "%1023s %d %lld %d", name, &type, &bytes, &rank) != 4 || rank > LARGEST_RANK)
            fail(path, "has a broken line");
        for (int axis = 0; axis < rank; axis++) {
            if (fscanf(file, "%lld", &size) != 1) fail(path, "has a broken shape");
            shape[axis] = size;
        }
        void *data = malloc(bytes > 0 ? bytes : 1);
        if (data == NULL || fgetc(file) != '\n' || fread(data, 1, bytes, file) != (size_t)bytes)
            fail(path, "ends too early");
        OrtValue *value;
        check(ort->CreateTensorWithDataAsOrtValue(memory, data, bytes, shape, rank, type, &value), name);
        check(ort->BindInput(binding, name, value), name);
    }
    fclose(file);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void print_output(OrtValue *value) {
    OrtTensorTypeAndShapeInfo *info;
    size_t count;
    float *data;
    check(ort->GetTensorTypeAndShape(value, &info), "GetTensorTypeAndShape");
    check(ort->GetTensorShapeElementCount(info, &count), "GetTensorShapeElementCount");
    check(ort->GetTensorMutableData(value, (void **)&data), "GetTensorMutableData");
    size_t step = (count + OUTPUT_VALUES - 1) / OUTPUT_VALUES;
    printf("ready");
    for (size_t i = 0; i < count; i += step) printf(" %.9g", data[i]);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 5) fail("usage", "native_loop LIBRARY MODEL INPUTS THREADS");
    ort = api_of(argv[1]);

    OrtEnv *env;
    OrtSession *session;
    OrtIoBinding *binding;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "native_loop", &env), "CreateEnv");
    check(ort->CreateSession(env, argv[2], options_of(atoi(argv[4])), &session), "CreateSession");
    check(ort->CreateIoBinding(session, &binding), "CreateIoBinding");
    check(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory), "CreateCpuMemoryInfo");
    check(ort->GetAllocatorWithDefaultOptions(&allocator), "GetAllocatorWithDefaultOptions");
    bind_inputs(binding, memory, argv[3]);

    size_t outputs;
    check(ort->SessionGetOutputCount(session, &outputs), "SessionGetOutputCount");
    char **names = malloc(outputs * sizeof *names);
    for (size_t i = 0; i < outputs; i++) {
        check(ort->SessionGetOutputName(session, i, allocator, &names[i]), "SessionGetOutputName");
        check(ort->BindOutputToDevice(binding, names[i], memory), names[i]);
    }
    check(ort->RunWithBinding(session, NULL, binding), "RunWithBinding");
    /* What the first run allocated is written into from now on. */
    OrtValue **values;
    check(ort->GetBoundOutputValues(binding, allocator, &values, &outputs), "GetBoundOutputValues");
    for (size_t i = 0; i < outputs; i++) check(ort->BindOutput(binding, names[i], values[i]), names[i]);
    check(ort->RunWithBinding(session, NULL, binding), "RunWithBinding");
    print_output(values[0]);

    int calls;
    while (scanf("%d", &calls) == 1) {
        int64_t *durations = malloc((calls > 0 ? calls : 1) * sizeof *durations);
        if (durations == NULL) fail("malloc", "no memory for the durations");
        for (int i = 0; i < calls; i++) {
            int64_t start = now_ns();
            OrtStatus *status = ort->RunWithBinding(session, NULL, binding);
            durations[i] = now_ns() - start;
            check(status, "RunWithBinding");
        }
        for (int i = 0; i < calls; i++) printf("%lld ", (long long)durations[i]);
        printf("\n");
        fflush(stdout);
        free(durations);
    }
    return 0;
}
