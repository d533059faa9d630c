/* Facts about the machine that the agent acts on, from the system files below a root. */

#include "agent.h"

#include <ctype.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PROCESSOR "sys/devices/system/cpu/cpu%d/"

enum { CLOCK_READINGS = 1000, USUAL_CACHE_BYTES = 32 << 20 };

static const char *system_root = "/";

void read_machine_below(const char *root) { system_root = root; }

static FILE *opened(const char *file) { return fopen(taken("%s/%s", system_root, file), "r"); }

/* Without the end of line; NULL at the end of the file. */
char *next_line(FILE *file) {
    char *line = NULL, *kept = NULL;
    size_t room = 0;
    ssize_t length = getline(&line, &room, file);
    if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
    if (length >= 0) kept = taken("%s", line);
    free(line);
    return kept;
}

/* NULL if the file cannot be read or is empty, as of all facts that are not available. */
const char *first_line(const char *file) {
    FILE *lines = opened(file);
    if (lines == NULL) return NULL;
    const char *line = next_line(lines);
    fclose(lines);
    return line;
}

static char *stripped(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = '\0';
    return text;
}

/* Value of a line `name: value`; NULL of any other. Changes the line. */
const char *value_in(char *line, const char *name) {
    char *colon = strchr(line, ':');
    if (colon == NULL) return NULL;
    *colon = '\0';
    bool same = strcmp(stripped(line), name) == 0;
    *colon = ':';
    return same ? stripped(colon + 1) : NULL;
}

/* Value of the first line `name: value`. */
const char *field_of(const char *file, const char *name) {
    FILE *lines = opened(file);
    const char *found = NULL;
    char *line;
    while (lines != NULL && found == NULL && (line = next_line(lines)) != NULL) found = value_in(line, name);
    if (lines != NULL) fclose(lines);
    return found;
}

/* Output of a program, to be closed by pclose; NULL if it does not exist. */
FILE *output_of(const char *program, const char *arguments) {
    const char *path = taken("%s/%s", system_root, program);
    return access(path, X_OK) == 0 ? popen(taken("'%s' %s 2>/dev/null", path, arguments), "r") : NULL;
}

/* Mean of the values of all lines `name: value`; negative if there is none. */
double mean_of(const char *file, const char *name) {
    FILE *lines = opened(file);
    double sum = 0;
    int count = 0;
    char *line;
    while (lines != NULL && (line = next_line(lines)) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon == NULL || strncmp(line, name, strlen(name)) != 0) continue;
        sum += strtod(colon + 1, NULL);
        count++;
    }
    if (lines != NULL) fclose(lines);
    return count > 0 ? sum / count : -1;
}

/* Paths below the root that match, sorted, up to a NULL. */
char **matching(const char *pattern) {
    glob_t found;
    const char *whole_pattern = taken("%s/%s", system_root, pattern);
    size_t count = glob(whole_pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0, root = strlen(system_root) + 1;
    char **paths = take((count + 1) * sizeof *paths);
    for (size_t i = 0; i < count; i++) paths[i] = taken("%s", found.gl_pathv[i] + root);
    globfree(&found);
    return paths;
}

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

size_t allowed_processors(int **numbers) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) fail("OSError", "the processors of this process are not known");
    size_t count = 0;
    *numbers = take(sizeof **numbers * (size_t)CPU_SETSIZE);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) (*numbers)[count++] = i;
    return count;
}

static void restrict_to(const cpu_set_t *set, const char *what) {
    if (sched_setaffinity(0, sizeof *set, set) != 0) fail("option", "this device does not permit %s", what);
}

/* Hexadecimal, as taskset takes it. */
void restrict_to_mask(const char *mask) {
    size_t digits = strlen(mask);
    cpu_set_t set;
    CPU_ZERO(&set);
    if (digits == 0 || strspn(mask, "0123456789abcdefABCDEF") != digits || 4 * digits > CPU_SETSIZE)
        fail("option", "cores must be a hexadecimal mask as of taskset, for example f0, not '%s'", mask);
    for (size_t i = 0; i < digits; i++) {
        const char digit[] = {mask[digits - 1 - i], '\0'};
        for (int bit = 0; bit < 4; bit++)
            if (strtol(digit, NULL, 16) >> bit & 1) CPU_SET(4 * i + (size_t)bit, &set);
    }
    restrict_to(&set, taken("the processors of the mask %s; it has %ld", mask, sysconf(_SC_NPROCESSORS_CONF)));
}

/* Named by all its hardware threads; one core each if the topology is not available. */
static const char *core_of(int processor) {
    const char *siblings = first_line(taken(PROCESSOR "topology/thread_siblings_list", processor));
    return siblings != NULL ? siblings : taken("%d", processor);
}

/* Allowed processors in the order in which pinned threads leave them: those whose core has a later one come first. */
static size_t in_order(int **ordered, size_t *cores) {
    int *numbers;
    size_t count = allowed_processors(&numbers), kept = 0;
    const char **names = take(count * sizeof *names);
    bool *later = take(count * sizeof *later);
    *ordered = take(count * sizeof **ordered);
    *cores = 0;
    for (size_t i = 0; i < count; i++) names[i] = core_of(numbers[i]);
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count; j++) later[i] = later[i] || strcmp(names[i], names[j]) == 0;
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < count; i++)
            if (later[i] == (round == 0)) (*ordered)[kept++] = numbers[i];
    for (size_t i = 0; i < count; i++) *cores += !later[i];
    return count;
}

size_t physical_cores(void) {
    int *ordered;
    size_t cores;
    in_order(&ordered, &cores);
    return cores;
}

/* The last processors, as the first tends to serve interrupts, and one per core where that is enough. */
void pin_to(size_t threads) {
    int *ordered;
    size_t cores, count = in_order(&ordered, &cores);
    cpu_set_t set;
    CPU_ZERO(&set);
    for (size_t i = count - threads; i < count; i++) CPU_SET((size_t)ordered[i], &set);
    restrict_to(&set, "pinning");
}

/* Size of the last-level cache of a processor, and the processors that share it; 0 if not available. */
static int64_t largest_cache(int processor, const char **shared) {
    int64_t largest = 0;
    for (char **each = matching(taken(PROCESSOR "cache/index*", processor)); *each != NULL; each++) {
        const char *size = first_line(taken("%s/size", *each)), *by = first_line(taken("%s/shared_cpu_list", *each));
        if (size == NULL || by == NULL || size[0] == '\0' || size[strlen(size) - 1] != 'K') continue;
        int64_t bytes = 1024 * strtoll(size, NULL, 10);
        if (bytes > largest) largest = bytes, *shared = by;
    }
    return largest;
}

/* Of all allowed processors, each cache once; a typical size if not available. */
int64_t cache_bytes(void) {
    int *numbers;
    size_t count = allowed_processors(&numbers), known = 0;
    const char **caches = take(count * sizeof *caches);
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        const char *shared = NULL;
        int64_t bytes = largest_cache(numbers[i], &shared);
        bool counted = bytes == 0;
        for (size_t j = 0; j < known && !counted; j++) counted = strcmp(caches[j], shared) == 0;
        if (counted) continue;
        caches[known++] = shared;
        sum += bytes;
    }
    return sum > 0 ? sum : USUAL_CACHE_BYTES;
}

/* A number alone on the first line of a file; -1 otherwise, as for the word `max`. */
static int64_t number_in(const char *file) {
    const char *line = first_line(file);
    if (line == NULL || line[0] == '\0' || strspn(line, "0123456789") != strlen(line)) return -1;
    return strtoll(line, NULL, 10);
}

/* Memory left by the control group, such as that of a container. The page cache is reclaimed on demand, so it counts. */
static int64_t left_in_group(void) {
    int64_t limit = number_in("sys/fs/cgroup/memory.max"), used = number_in("sys/fs/cgroup/memory.current");
    if (limit < 0 || used < 0) return INT64_MAX;
    FILE *lines = opened("sys/fs/cgroup/memory.stat");
    const char *line;
    int64_t files = 0;
    while (lines != NULL && (line = next_line(lines)) != NULL)
        if (strncmp(line, "inactive_file ", 14) == 0 || strncmp(line, "active_file ", 12) == 0)
            files += strtoll(strchr(line, ' '), NULL, 10);
    if (lines != NULL) fclose(lines);
    int64_t kept = used > files ? used - files : 0;
    return limit > kept ? limit - kept : 0;
}

/* Memory available to a new program; total memory if only that is known. */
int64_t free_bytes(void) {
    const char *available = field_of("proc/meminfo", "MemAvailable");
    if (available == NULL) return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    int64_t bytes = 1024 * strtoll(available, NULL, 10), left = left_in_group();
    return bytes < left ? bytes : left;
}

/* Model of the processor or of the board, and architecture; a transport that knows the device's name passes it on. */
const char *hardware(void) {
    const char *cpuinfo = "proc/cpuinfo", *name = getenv("ADAPTARE_HARDWARE");
    if (name == NULL || *name == '\0') name = field_of(cpuinfo, "model name");
    if (name == NULL || *name == '\0') name = first_line("proc/device-tree/model");
    if (name == NULL || *name == '\0') {
        const char *implementer = field_of(cpuinfo, "CPU implementer"), *part = field_of(cpuinfo, "CPU part");
        name = implementer != NULL && part != NULL ? taken("%s %s", implementer, part) : "unknown processor";
    }
    struct utsname system;
    uname(&system);
    return taken("%s (%s)", name, system.machine);
}

/* Joules counted by all processor packages; other zones are parts of one, or the whole machine. */
bool has_energy(double *joules) {
    double microjoules = 0;
    bool known = false;
    for (char **each = matching("sys/class/powercap/intel-rapl:*"); *each != NULL; each++) {
        const char *name = first_line(taken("%s/name", *each));
        int64_t counter = number_in(taken("%s/energy_uj", *each));
        if (name == NULL || strncmp(name, "package", 7) != 0 || counter < 0) continue;
        microjoules += (double)counter;
        known = true;
    }
    *joules = microjoules / 1e6;
    return known;
}
