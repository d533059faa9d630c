/* Raw facts about the machine, which the host reads: text of system files below a root, variables and counters. */

#include "agent.h"

#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { CLOCK_READINGS = 1000 };

extern char **environ;
static const char *system_root = "/";

void read_machine_below(const char *root) { system_root = root; }

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double timer_step_s(void) {
    double step = 0, last = seconds_now();
    for (int i = 1; i < CLOCK_READINGS; i++) {
        double next = seconds_now();
        if (next > last && (step == 0 || next - last < step)) step = next - last;
        last = next;
    }
    struct timespec resolution;
    clock_getres(CLOCK_MONOTONIC, &resolution);
    return step > 0 ? step : (double)resolution.tv_sec + 1e-9 * (double)resolution.tv_nsec;
}

/* Restricts this process to the processors of a list; an empty one leaves it as it is. */
void restrict_to(const struct json *processors) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const struct json *each = processors->first; each != NULL; each = each->next) {
        int64_t number = whole(each, "processors");
        if (number < 0 || number >= CPU_SETSIZE) fail("ValueError", "there is no processor %lld", (long long)number);
        CPU_SET((size_t)number, &set);
    }
    if (processors->count > 0 && sched_setaffinity(0, sizeof set, &set) != 0)
        fail("option", "this device does not permit the choice of processors");
}

static void put_processors(struct reply *reply) {
    cpu_set_t set;
    const char *between = "";
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) fail("OSError", "the processors of this process are not known");
    put(reply, ", \"processors\": [");
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) put(reply, "%s%d", between, i), between = ", ";
    put(reply, "]");
}

/* Variables of the environment whose names begin with one of these texts. */
static void put_variables(struct reply *reply, const struct json *prefixes) {
    const char *between = "";
    put(reply, ", \"variables\": {");
    for (char **variable = environ; *variable != NULL; variable++) {
        const char *equals = strchr(*variable, '=');
        bool matches = false;
        for (const struct json *each = prefixes->first; each != NULL && equals != NULL; each = each->next)
            matches = matches || strncmp(*variable, text_of(each, "variables"), strlen(each->text)) == 0;
        if (!matches) continue;
        put(reply, "%s", between);
        put_bytes(reply, *variable, (size_t)(equals - *variable));
        put(reply, ": ");
        put_text(reply, equals + 1);
        between = ", ";
    }
    put(reply, "}");
}

struct bounds {
    size_t file_bytes, left;
    char *text; /* room for one file */
};

/* The beginning of an open file, if there is one, under its name. */
static void put_file(struct reply *reply, FILE *file, const char *name, struct bounds *bounds) {
    size_t most = bounds->file_bytes < bounds->left ? bounds->file_bytes : bounds->left;
    size_t length = file != NULL ? fread(bounds->text, 1, most, file) : 0;
    if (length == 0) return;
    bounds->left -= length;
    put(reply, "%s", reply->text[reply->length - 1] == '{' ? "" : ", ");
    put_text(reply, name);
    put(reply, ": ");
    put_bytes(reply, bounds->text, length);
}

/* Text of all files below the root that match a pattern. */
static void put_matching(struct reply *reply, const char *pattern, struct bounds *bounds) {
    glob_t found;
    size_t root = strlen(system_root) + 1;
    if (glob(taken("%s/%s", system_root, pattern), 0, NULL, &found) != 0) return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FILE *file = fopen(found.gl_pathv[i], "r");
        put_file(reply, file, found.gl_pathv[i] + root, bounds);
        if (file != NULL) fclose(file);
    }
    globfree(&found);
}

/* Output of a program with arguments below the root, if it exists, as the text of a file with this name. */
static void put_output_of(struct reply *reply, const char *command, struct bounds *bounds) {
    const char *space = strchr(command, ' '), *arguments = space != NULL ? space : "";
    const char *path = taken("%s/%.*s", system_root, (int)strcspn(command, " "), command);
    FILE *output = access(path, X_OK) == 0 ? popen(taken("'%s'%s 2>/dev/null", path, arguments), "r") : NULL;
    put_file(reply, output, command, bounds);
    if (output != NULL) pclose(output);
}

void report_machine(struct reply *reply, const struct json *request) {
    size_t file_bytes = (size_t)needed_size(request, "file_bytes"), total = (size_t)needed_size(request, "total_bytes");
    struct bounds bounds = {file_bytes, total, take(file_bytes)};
    const struct json *files = needed(request, "files", JSON_LIST), *programs = needed(request, "programs", JSON_LIST);
    struct utsname system;
    struct rusage used;
    double load[3];
    uname(&system);
    getrusage(RUSAGE_SELF, &used);
    put(reply, ", \"machine\": {\"at_s\": %lld, \"system\": \"%s\", \"release\": \"%s\", \"architecture\": \"%s\"",
        (long long)time(NULL), system.sysname, system.release, system.machine);
    put_processors(reply);
    put_variables(reply, needed(request, "variables", JSON_LIST));
    put(reply, ", \"packages\": {\"onnxruntime\": \"%s\"}", runtime_version());
    put(reply, ", \"logical_processors\": %ld, \"memory_bytes\": %lld, \"ticks_s\": %ld", sysconf(_SC_NPROCESSORS_ONLN),
        (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), sysconf(_SC_CLK_TCK));
    if (getloadavg(load, 3) == 3) put(reply, ", \"load_average\": [%g, %g, %g]", load[0], load[1], load[2]);
    put(reply, ", \"switches\": {\"voluntary\": %ld, \"involuntary\": %ld}, \"files\": {", used.ru_nvcsw, used.ru_nivcsw);
    for (const struct json *each = files->first; each != NULL; each = each->next)
        put_matching(reply, text_of(each, "files"), &bounds);
    for (const struct json *each = programs->first; each != NULL; each = each->next)
        put_output_of(reply, text_of(each, "programs"), &bounds);
    put(reply, "}}");
}
