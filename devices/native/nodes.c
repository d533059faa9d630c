/* Number of nodes that each execution provider runs. */

#include "runtime.h"

#include <string.h>
#include <unistd.h>

/* Functions of version 24, for which headers may be too old. Their slots never change: the structure only grows. */
enum { ASSIGNED_SUBGRAPHS = 407, SUBGRAPH_PROVIDER = 408, SUBGRAPH_NODES = 409 };
union newer {
    void *slot;
    OrtStatus *(*subgraphs)(const OrtSession *, const void *const **, size_t *);
    OrtStatus *(*provider)(const void *, const char **);
    OrtStatus *(*nodes)(const void *, const void *const **, size_t *);
};

static union newer newer(int slot) { return (union newer){.slot = ((void *const *)ort)[slot]}; }

static void add(struct counts *counts, const char *name, size_t nodes) {
    size_t at = 0;
    while (at < counts->known && strcmp(counts->names[at], name) != 0) at++;
    if (at == MOST_PROVIDERS || strlen(name) > LONGEST_PROVIDER) fail("RuntimeError", "provider '%s' is too much", name);
    if (at == counts->known) strcpy(counts->names[counts->known++], name);
    counts->nodes[at] += nodes;
}

static void check_provider(const struct model *model) {
    size_t all = 0;
    bool runs = strcmp(model->wanted, CPU) == 0;
    for (size_t i = 0; i < model->counts.known; i++) {
        all += model->counts.nodes[i];
        runs = runs || strcmp(model->counts.names[i], model->wanted) == 0;
    }
    if (!runs) fail("RuntimeError", "provider '%s' was requested but runs none of the %zu nodes", model->wanted, all);
}

/* As assigned by partitioning; later fusions may leave fewer. */
void count_assigned(struct model *model) {
    const void *const *graphs = NULL, *const *ignored;
    const char *name;
    size_t count = 0, nodes;
    if (model->uncounted) return;
    check(newer(ASSIGNED_SUBGRAPHS).subgraphs(model->session, &graphs, &count));
    for (size_t i = 0; i < count; i++) {
        check(newer(SUBGRAPH_PROVIDER).provider(graphs[i], &name));
        check(newer(SUBGRAPH_NODES).nodes(graphs[i], &ignored, &nodes));
        add(&model->counts, name, nodes);
    }
    check_provider(model);
}

/* As profiled in the call before, where the library does not tell its assignment; the profile ends. */
void count_profiled(struct model *model) {
    static const char end[] = "_kernel_time";
    char *allocated;
    size_t length;
    model->uncounted = false;
    check(ort->SessionEndProfiling(model->session, allocator, &allocated));
    const char *file = kept(allocated), *text = whole_text(file, &length);
    unlink(file);
    for (const struct json *event = parsed(text, length)->first; event != NULL; event = event->next) {
        const struct json *name = member(event, "name"), *facts = member(event, "args");
        size_t size = name != NULL && name->kind == JSON_TEXT ? strlen(name->text) : 0;
        if (facts == NULL || size < sizeof end || strcmp(name->text + size - sizeof end + 1, end) != 0) continue;
        add(&model->counts, needed_text(facts, "provider"), 1);
    }
    check_provider(model);
}

/* Removes the profile of a model that was never called. */
void end_profile(struct model *model) {
    char *file;
    if (!model->uncounted) return;
    model->uncounted = false;
    OrtStatus *status = ort->SessionEndProfiling(model->session, allocator, &file);
    if (status == NULL) {
        unlink(file);
        status = ort->AllocatorFree(allocator, file);
    }
    if (status != NULL) ort->ReleaseStatus(status);
}

void put_nodes(struct reply *reply, const struct model *model) {
    put(reply, "\"providers\": {");
    for (size_t i = 0; i < model->counts.known; i++) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_text(reply, model->counts.names[i]);
        put(reply, ": %zu", model->counts.nodes[i]);
    }
    put(reply, "}");
}
