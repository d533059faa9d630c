/* ONNX Runtime's shared library, and the options of all sessions. */

#include "runtime.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX "ExecutionProvider"
#define XNNPACK "Xnnpack" SUFFIX

enum {
    ASSIGNMENT_VERSION = 24, /* the first that says which provider runs a node */
    OLDEST_VERSION = 18
};

const OrtApi *ort;
OrtEnv *environment;
OrtMemoryInfo *memory;
OrtAllocator *allocator;
bool knows_assignment;
static const char *version;
static char provider[128] = CPU;
static int intra_op_threads = 1;
static bool spinning = true, flush_denormals;

void check(OrtStatus *status) {
    static const char *const no_memory[] = {"can't allocate memory", "Failed to allocate memory", "bad_alloc"};
    if (status == NULL) return;
    const char *message = taken("%s", ort->GetErrorMessage(status)), *kind = "RuntimeError";
    ort->ReleaseStatus(status);
    for (size_t i = 0; i < COUNT_OF(no_memory); i++)
        if (strstr(message, no_memory[i]) != NULL) kind = "out of memory";
    fail(kind, "%s", message);
}

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
    ort = start.base()->GetApi(ASSIGNMENT_VERSION);
    knows_assignment = ort != NULL;
    if (ort == NULL) ort = start.base()->GetApi(OLDEST_VERSION);
    if (ort == NULL) fail("OSError", "onnxruntime %s is too old; use version 1.%d or later", version, OLDEST_VERSION);
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

const char *wanted_provider(bool prepared) { return prepared ? provider : CPU; }

/* Short name by which a provider is appended: XNNPACK for XnnpackExecutionProvider. */
static const char *short_name(void) {
    size_t length = strlen(provider), suffix = strlen(SUFFIX);
    if (length > suffix && strcmp(provider + length - suffix, SUFFIX) == 0) length -= suffix;
    const char *name = taken("%.*s", (int)length, provider);
    return strcmp(name, "Xnnpack") == 0 ? "XNNPACK" : name;
}

/* XNNPACK has threads of its own; the session then gets a single one. */
static OrtStatus *append_provider(OrtSessionOptions *options, bool own_threads) {
    const char *const keys[] = {"intra_op_num_threads"}, *const values[] = {taken("%d", intra_op_threads)};
    return ort->SessionOptionsAppendExecutionProvider(options, short_name(), keys, values, own_threads ? 1 : 0);
}

/* Options of a session. Unprepared programs run once and are not timed: without the provider, graph optimisation and
 * prepacking. A trace is the beginning of a file name for a profile. */
OrtStatus *configure(OrtSessionOptions *options, bool prepared, bool copy, const char *trace) {
    const struct {
        bool set;
        const char *name, *value;
    } entries[] = {
        {true, "session.record_ep_graph_assignment_info", "1"}, {!spinning, "session.intra_op.allow_spinning", "0"},
        {flush_denormals, "session.set_denormal_as_zero", "1"}, {!prepared, "session.disable_prepacking", "1"},
        {copy, "session.use_env_allocators", "1"},
    };
    bool own_threads = strcmp(provider, XNNPACK) == 0;
    OrtStatus *status = ort->SetIntraOpNumThreads(options, own_threads ? 1 : intra_op_threads);
    if (status == NULL) status = ort->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR);
    if (status == NULL && !prepared) status = ort->SetSessionGraphOptimizationLevel(options, ORT_DISABLE_ALL);
    if (status == NULL && trace != NULL) status = ort->EnableProfiling(options, trace);
    for (size_t i = 0; i < COUNT_OF(entries) && status == NULL; i++)
        if (entries[i].set) status = ort->AddSessionConfigEntry(options, entries[i].name, entries[i].value);
    if (status == NULL && strcmp(wanted_provider(prepared), CPU) != 0) status = append_provider(options, own_threads);
    return status;
}
