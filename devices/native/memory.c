/* Memory of this process. */

#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Sum of the kilobytes on the lines that begin with these words, in bytes; 0 if the file cannot be read. */
static int64_t summed(const char *file, const char *words) {
    FILE *lines = fopen(file, "r");
    char line[256];
    int64_t sum = 0;
    while (lines != NULL && fgets(line, sizeof line, lines) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, words, strlen(words)) == 0) sum += 1024 * strtoll(colon + 1, NULL, 10);
    }
    if (lines != NULL) fclose(lines);
    return sum;
}

/* Resident memory private to this process. */
int64_t private_bytes(void) { return summed("/proc/self/smaps_rollup", "Private_"); }

/* Peak resident memory. */
int64_t peak_bytes(void) { return summed("/proc/self/status", "VmHWM:"); }

/* Private writable file mappings, which count towards the limit; pages only read take no memory. */
int64_t mapped_file_bytes(void) {
    FILE *lines = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t room = 0;
    int64_t sum = 0;
    while (lines != NULL && getline(&line, &room, lines) > 0) {
        unsigned long long start, end, offset, inode;
        char rights[5], node[16];
        int read = sscanf(line, "%llx-%llx %4s %llx %15s %llu", &start, &end, rights, &offset, node, &inode);
        if (read == 6 && strcmp(rights, "rw-p") == 0 && inode != 0) sum += (int64_t)(end - start);
    }
    free(line);
    if (lines != NULL) fclose(lines);
    return sum;
}

/* Makes allocations beyond the limit fail in this process, instead of exhausting the machine's memory. */
void limit_memory(int64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_DATA, &limit) != 0) return;
    limit.rlim_cur = (rlim_t)bytes < limit.rlim_max ? (rlim_t)bytes : limit.rlim_max;
    setrlimit(RLIMIT_DATA, &limit);
}
