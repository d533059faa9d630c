/* Programs that are ONNX files, run as in ONNX Runtime's documentation: a session with bound inputs. */

#include "runtime.h"

#include <stdlib.h>
#include <string.h>

enum { OUTPUT_VALUES = 512 };

struct bound {
    OrtSession *session;
    OrtIoBinding *binding;
    size_t count;
    OrtValue **values;
    void **data;
    struct bound *next;
};

static bool shares_memory;

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

struct model *load_model(const char *path, const struct json *arguments, bool copy) {
    static const char format[] = ".ort"; /* of whose nodes no version tells the assignment */
    OrtSessionOptions *options;
    refuse_active_adapters(arguments);
    if (copy) share_memory();
    bool prepared = member(arguments, "prepared") == NULL || needed_flag(arguments, "prepared");
    size_t length = strlen(path);
    bool saved = length >= sizeof format && strcmp(path + length - sizeof format + 1, format) == 0;
    struct model *model = own(sizeof *model);
    model->wanted = wanted_provider(prepared);
    OrtStatus *status = ort->CreateSessionOptions(&options);
    if (status == NULL) {
        const char *trace = saved || !knows_assignment ? in_folder("profile") : NULL;
        status = configure(options, prepared, copy, trace);
        if (status == NULL) status = ort->CreateSession(environment, path, options, &model->session);
        model->uncounted = status == NULL && trace != NULL;
        ort->ReleaseSessionOptions(options);
    }
    if (status != NULL) free_model(model);
    check(status);
    return model;
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
    end_profile(model);
    if (model->session != NULL) ort->ReleaseSession(model->session);
    free(model);
}

/* A name that the library allocated, kept until the end of the request. */
const char *kept(char *name) {
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
    if (model->uncounted) {
        check(call(bound));
        count_profiled(model);
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
