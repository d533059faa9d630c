/* What the files that call ONNX Runtime share. */

#ifndef ADAPTARE_RUNTIME_H
#define ADAPTARE_RUNTIME_H

#include "agent.h"

#include <onnxruntime_c_api.h>

#define CPU "CPUExecutionProvider"

enum { MOST_PROVIDERS = 32, LONGEST_PROVIDER = 127 };

/* Nodes by provider. */
struct counts {
    size_t known;
    char names[MOST_PROVIDERS][LONGEST_PROVIDER + 1];
    size_t nodes[MOST_PROVIDERS];
};

struct model {
    OrtSession *session;
    struct bound *bound;
    struct counts counts;
    const char *wanted; /* provider that has to run a node */
    bool uncounted;     /* until its first call is profiled */
};

/* library.c */
extern const OrtApi *ort;
extern OrtEnv *environment;
extern OrtMemoryInfo *memory;
extern OrtAllocator *allocator;
extern bool knows_assignment;
void check(OrtStatus *status);
const char *wanted_provider(bool prepared);
OrtStatus *configure(OrtSessionOptions *options, bool prepared, bool copy, const char *trace);

/* nodes.c */
void count_profiled(struct model *model);
void end_profile(struct model *model);

/* runtime.c */
const char *kept(char *name);

#endif
