/* Programs that are ONNX files, run as in ONNX Runtime's documentation: a session with bound inputs. */

#include "agent.h"

#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <stdlib.h>
#include <string.h>

#define CPU "CPUExecutionProvider"
#define SUFFIX "ExecutionProvider"

enum { OUTPUT_VALUES = 512, API_VERSION = 24 /* the first that says which provider runs a node */ };

/* Functions of version 24, for which headers may be too old. Their slots never change: the structure only grows. */
enum { ASSIGNED_SUBGRAPHS = 407, SUBGRAPH_PROVIDER = 408, SUBGRAPH_NODES = 409 };
union newer {
    void *slot;
    OrtStatus *(*subgraphs)(const OrtSession *, const void *const **, size_t *);
    OrtStatus *(*provider)(const void *, const char **);
    OrtStatus *(*nodes)(const void *, const void *const **, size_t *);
};

struct model {
    OrtSession *session;
    struct bound *bound;
};

struct bound {
    OrtSession *session;
    OrtIoBinding *binding;
    size_t count;
    OrtValue **values;
    void **data;
    struct bound *next;
};

static const OrtApi *ort;
static const char *version;
static OrtEnv *environment;
static OrtMemoryInfo *memory;
static OrtAllocator *allocator;
static int intra_op_threads = 1;
static bool spinning = true, flush_denormals, shares_memory;
static char provider[128] = CPU;

static void check(OrtStatus *status) {
    static const char *const no_memory[] = {"can't allocate memory", "Failed to allocate memory", "bad_alloc"};
    if (status == NULL) return;
    const char *message = taken("%s", ort->GetErrorMessage(status)), *kind = "RuntimeError";
    ort->ReleaseStatus(status);
    for (size_t i = 0; i < COUNT_OF(no_memory); i++)
        if (strstr(message, no_memory[i]) != NULL) kind = "out of memory";
    fail(kind, "%s", message);
}

static union newer newer(int slot) { return (union newer){.slot = ((void *const *)ort)[slot]}; }

void open_library(const char *path) {
    union {
        void *found;
        const OrtApiBase *(*base)(void);
    } start;
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fail("OSError", "the library of ONNX Runtime cannot be opened: %s", dlerror());
    start.found = dlsym(library, "OrtGetApiBase");
    if (start.found == NULL) fail("OSError", "'%s' is no library of ONNX Runtime", path);
    version = start.base()->GetVersionString();
    ort = start.base()->GetApi(API_VERSION);
    if (ort == NULL)
        fail("OSError", "onnxruntime %s cannot say which provider runs a node; use version 1.24 or later", version);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "adaptare", &environment));
    check(ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
}

const char *runtime_version(void) { return version; }

static char **available(int *count) {
    char **names = NULL;
    check(ort->GetAvailableProviders(&names, count));
    return names;
}

void put_providers(struct reply *reply) {
    int count;
    char **names = available(&count);
    put(reply, "\"providers\": [");
    for (int i = 0; i < count; i++) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_text(reply, names[i]);
    }
    put(reply, "]");
    check(ort->ReleaseAvailableProviders(names, count));
}

/* Threads and options of all programs. */
void set_up(int threads, const struct json *options) {
    const char *name = needed_text(options, "provider"), *known = "";
    int count;
    bool found = false;
    char **names = available(&count);
    for (int i = 0; i < count; i++) {
        found = found || strcmp(names[i], name) == 0;
        known = taken("%s%s%s", known, i > 0 ? ", " : "", names[i]);
    }
    check(ort->ReleaseAvailableProviders(names, count));
    if (!found || strlen(name) >= sizeof provider)
        fail("option", "provider '%s' is not in this build of onnxruntime; it has %s", name, known);
    strcpy(provider, name);
    intra_op_threads = threads;
    spinning = needed_flag(options, "spinning");
    flush_denormals = needed_flag(options, "flush_denormals");
}

/* Short name by which a provider is appended: XNNPACK for XnnpackExecutionProvider. */
static const char *short_name(void) {
    size_t length = strlen(provider), suffix = strlen(SUFFIX);
    if (length > suffix && strcmp(provider + length - suffix, SUFFIX) == 0) length -= suffix;
    const char *name = taken("%.*s", (int)length, provider);
    return strcmp(name, "Xnnpack") == 0 ? "XNNPACK" : name;
}

static OrtStatus *configure(OrtSessionOptions *options, bool prepared, bool copy) {
    const struct {
        bool set;
        const char *name, *value;
    } entries[] = {
        {true, "session.record_ep_graph_assignment_info", "1"}, {!spinning, "session.intra_op.allow_spinning", "0"},
        {flush_denormals, "session.set_denormal_as_zero", "1"}, {!prepared, "session.disable_prepacking", "1"},
        {copy, "session.use_env_allocators", "1"},
    };
    OrtStatus *status = ort->SetIntraOpNumThreads(options, intra_op_threads);
    if (status == NULL) status = ort->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR);
    if (status == NULL && !prepared) status = ort->SetSessionGraphOptimizationLevel(options, ORT_DISABLE_ALL);
    for (size_t i = 0; i < COUNT_OF(entries) && status == NULL; i++)
        if (entries[i].set) status = ort->AddSessionConfigEntry(options, entries[i].name, entries[i].value);
    if (status == NULL && strcmp(provider, CPU) != 0)
        status = ort->SessionOptionsAppendExecutionProvider(options, short_name(), NULL, NULL, 0);
    return status;
}

/* Creates the allocator shared by the copies of models, once: their intermediate results share memory, as do those of
 * the layers of one model. */
static void share_memory(void) {
    OrtMemoryInfo *arena;
    if (shares_memory) return;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &arena));
    OrtStatus *status = ort->CreateAndRegisterAllocator(environment, arena, NULL);
    ort->ReleaseMemoryInfo(arena);
    check(status);
    shares_memory = true;
}

static void refuse_active_adapters(const struct json *arguments) {
    if (member(arguments, "active_adapters") != NULL)
        fail("ValueError", "a bound run ignores active_adapters; give their tensors as inputs instead");
}

/* With `prepared: false`, without graph optimisation and prepacking, for programs that run once and are not timed. */
struct model *load_model(const char *path, const struct json *arguments, bool copy) {
    OrtSessionOptions *options;
    refuse_active_adapters(arguments);
    if (copy) share_memory();
    bool prepared = member(arguments, "prepared") == NULL || needed_flag(arguments, "prepared");
    struct model *model = own(sizeof *model);
    OrtStatus *status = ort->CreateSessionOptions(&options);
    if (status == NULL) {
        status = configure(options, prepared, copy);
        if (status == NULL) status = ort->CreateSession(environment, path, options, &model->session);
        ort->ReleaseSessionOptions(options);
    }
    if (status != NULL) free_model(model);
    check(status);
    return model;
}

/* Nodes by provider, counted after partitioning; later fusions may leave fewer. */
void put_nodes(struct reply *reply, const struct model *model) {
    const void *const *graphs = NULL;
    size_t count = 0, all = 0, wanted = 0;
    check(newer(ASSIGNED_SUBGRAPHS).subgraphs(model->session, &graphs, &count));
    const char **names = take(count * sizeof *names);
    size_t *nodes = take(count * sizeof *nodes), known = 0;
    for (size_t i = 0; i < count; i++) {
        const void *const *ignored;
        const char *name;
        size_t size, at = 0;
        check(newer(SUBGRAPH_PROVIDER).provider(graphs[i], &name));
        check(newer(SUBGRAPH_NODES).nodes(graphs[i], &ignored, &size));
        while (at < known && strcmp(names[at], name) != 0) at++;
        if (at == known) names[known++] = name;
        nodes[at] += size;
        all += size;
        if (strcmp(name, provider) == 0) wanted += size;
    }
    if (wanted == 0 && strcmp(provider, CPU) != 0)
        fail("RuntimeError", "provider '%s' was requested but runs none of the %zu nodes", provider, all);
    put(reply, "\"providers\": {");
    for (size_t i = 0; i < known; i++) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_text(reply, names[i]);
        put(reply, ": %zu", nodes[i]);
    }
    put(reply, "}");
}

static void free_bound(struct bound *bound) {
    if (bound->binding != NULL) ort->ReleaseIoBinding(bound->binding);
    for (size_t i = 0; i < bound->count; i++) {
        if (bound->values[i] != NULL) ort->ReleaseValue(bound->values[i]);
        free(bound->data[i]);
    }
    free(bound->values);
    free(bound->data);
    free(bound);
}

void free_model(struct model *model) {
    for (struct bound *next, *bound = model->bound; bound != NULL; bound = next) {
        next = bound->next;
        free_bound(bound);
    }
    if (model->session != NULL) ort->ReleaseSession(model->session);
    free(model);
}

/* A name that the library allocated, kept until the end of the request. */
static const char *kept(char *name) {
    const char *copy = taken("%s", name);
    check(ort->AllocatorFree(allocator, name));
    return copy;
}

static void bind_input(struct bound *bound, size_t index, const struct json *inputs) {
    char *allocated;
    check(ort->SessionGetInputName(bound->session, index, allocator, &allocated));
    const char *name = kept(allocated);
    if (member(inputs, name) == NULL) fail("ValueError", "the feed has no spec for the input '%s'", name);
    struct tensor tensor = filled(name, needed(inputs, name, JSON_OBJECT));
    bound->data[index] = tensor.data;
    check(ort->CreateTensorWithDataAsOrtValue(memory, tensor.data, tensor.bytes, tensor.shape, tensor.rank,
                                              (ONNXTensorElementDataType)tensor.type, &bound->values[index]));
    check(ort->BindInput(bound->binding, name, bound->values[index]));
}

/* `arguments["inputs"]` has a specification for every input of the graph. */
struct bound *bind_feed(struct model *model, const struct json *arguments) {
    size_t inputs, outputs;
    refuse_active_adapters(arguments);
    const struct json *none = take(sizeof *none), *specs = member(arguments, "inputs");
    specs = specs != NULL ? needed(arguments, "inputs", JSON_OBJECT) : none;
    check(ort->SessionGetInputCount(model->session, &inputs));
    check(ort->SessionGetOutputCount(model->session, &outputs));

    struct bound *bound = own(sizeof *bound);
    bound->next = model->bound;
    model->bound = bound; /* which frees it if this fails */
    bound->session = model->session;
    bound->values = own((inputs + 1) * sizeof *bound->values);
    bound->data = own((inputs + 1) * sizeof *bound->data);
    bound->count = inputs;
    check(ort->CreateIoBinding(model->session, &bound->binding));
    for (size_t i = 0; i < inputs; i++) bind_input(bound, i, specs);
    if (specs->count != inputs) fail("ValueError", "the feed has %zu inputs, the graph %zu", specs->count, inputs);
    for (size_t i = 0; i < outputs; i++) {
        char *allocated;
        check(ort->SessionGetOutputName(model->session, i, allocator, &allocated));
        check(ort->BindOutputToDevice(bound->binding, kept(allocated), memory));
    }
    return bound;
}

void *call(struct bound *bound) { return ort->RunWithBinding(bound->session, NULL, bound->binding); }

void check_call(void *failure) { check(failure); }

static OrtStatus *put_values(struct reply *reply, OrtValue *output) {
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t count = 0;
    void *data = NULL;
    OrtStatus *status = ort->GetTensorTypeAndShape(output, &info);
    if (status == NULL) status = ort->GetTensorElementType(info, &type);
    if (status == NULL) status = ort->GetTensorShapeElementCount(info, &count);
    if (status == NULL) status = ort->GetTensorMutableData(output, &data);
    if (info != NULL) ort->ReleaseTensorTypeAndShapeInfo(info);
    size_t step = count > OUTPUT_VALUES ? (count + OUTPUT_VALUES - 1) / OUTPUT_VALUES : 1;
    for (size_t i = 0; i < count && status == NULL; i += step) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_real(reply, value_at(data, type, i));
    }
    return status;
}

/* At most 512 values of the first output, evenly spaced. */
void put_output(struct reply *reply, const struct bound *bound) {
    OrtValue **outputs = NULL;
    size_t count = 0;
    check(ort->GetBoundOutputValues(bound->binding, allocator, &outputs, &count));
    put(reply, "[");
    OrtStatus *status = count > 0 ? put_values(reply, outputs[0]) : NULL;
    put(reply, "]");
    for (size_t i = 0; i < count; i++) ort->ReleaseValue(outputs[i]);
    if (outputs != NULL) check(ort->AllocatorFree(allocator, outputs));
    check(status);
}
