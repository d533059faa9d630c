/* Bound on the files that stay on a device: before others come, the least recently used ones are removed. Rules and
 * constants are those of the agent in Python (room.py). */

#include "agent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SIGNATURE "Signature: 8a477f597d28d172789f06886806bc55"
#define MARK "# Files that adaptare sent to this device; removed by: adaptare devices --clean DEVICE"
#define VARIABLE "ADAPTARE_CACHE_BYTES"

enum { IN_USE_S = 3600 };
static const int64_t MOST_BYTES = (int64_t)16 << 30;

struct entry {
    const char *name, *path;
    int64_t bytes;
    double used_s;
    bool is_folder;
};

/* True if the folder is a cache of adaptare's, and may lose files. */
static bool is_marked(void) {
    FILE *tag = fopen(in_folder("CACHEDIR.TAG"), "r");
    if (tag == NULL) return false;
    static const char expected[] = SIGNATURE "\n" MARK "\n";
    char found[sizeof expected] = "";
    size_t last = fread(found, 1, sizeof expected - 1, tag) > 0 ? sizeof expected - 2 : 0;
    fclose(tag);
    return last > 0 && strncmp(found, expected, last) == 0 && (found[last] == '\n' || found[last] == '\0');
}

/* Marks a file or folder as used now. */
void note_use(const char *path) {
    if (is_marked()) utimensat(AT_FDCWD, path, NULL, 0);
}

static int by_use(const void *one, const void *other) {
    double first = ((const struct entry *)one)->used_s, second = ((const struct entry *)other)->used_s;
    return (first > second) - (first < second);
}

/* Everything in a folder, the least recently used first. */
static struct entry *within(const char *folder, size_t *count) {
    struct entry *found = NULL;
    *count = 0;
    DIR *listed = opendir(folder);
    if (listed == NULL) return NULL;
    size_t room = 0;
    for (struct dirent *each; (each = readdir(listed)) != NULL;) {
        struct stat facts;
        if (strcmp(each->d_name, ".") == 0 || strcmp(each->d_name, "..") == 0) continue;
        const char *path = taken("%s/%s", folder, each->d_name);
        if (lstat(path, &facts) != 0) continue;
        if (*count == room) {
            struct entry *more = take((room = 2 * room + 64) * sizeof *more);
            if (*count > 0) memcpy(more, found, *count * sizeof *more);
            found = more;
        }
        double used_s = (double)facts.st_mtim.tv_sec + 1e-9 * (double)facts.st_mtim.tv_nsec;
        found[(*count)++] = (struct entry){taken("%s", each->d_name), path, facts.st_size, used_s, S_ISDIR(facts.st_mode)};
    }
    closedir(listed);
    if (*count > 0) qsort(found, *count, sizeof *found, by_use);
    return found;
}

static int64_t most_bytes(int64_t held) {
    const char *told = getenv(VARIABLE);
    bool number = told != NULL && *told != '\0' && strspn(told, "0123456789") == strlen(told);
    int64_t most = number ? strtoll(told, NULL, 10) : MOST_BYTES;
    struct statvfs disk;
    if (statvfs(in_folder("files"), &disk) != 0) return most;
    int64_t half = (held + (int64_t)disk.f_bavail * (int64_t)disk.f_frsize) / 2;
    return most < half ? most : half;
}

static void remove_folder(const char *folder) {
    size_t count;
    struct entry *files = within(folder, &count);
    for (size_t i = 0; i < count; i++) unlink(files[i].path);
    rmdir(folder);
}

static bool is_needed(const struct json *needed, const char *name) {
    for (const struct json *each = needed->first; each != NULL; each = each->next)
        if (strcmp(each->text, name) == 0) return true;
    return false;
}

/* Removes contents that were not used for an hour, the oldest first, until the rest is within the bound; those that are
 * needed stay. Another agent may be about to load what it used later. */
void bound_files(const struct json *needed) {
    if (!is_marked()) return;
    size_t contents, programs;
    struct entry *held = within(in_folder("files"), &contents), *links;
    int64_t excess = 0;
    for (size_t i = 0; i < contents; i++) excess += held[i].bytes;
    excess -= most_bytes(excess);
    double latest_s = (double)time(NULL) - IN_USE_S;
    if (excess <= 0) return;
    links = within(in_folder("programs"), &programs); /* made anew where they are missing */
    for (size_t i = 0; i < programs && links[i].used_s < latest_s; i++)
        if (links[i].is_folder) remove_folder(links[i].path);
    for (size_t i = 0; i < contents && excess > 0 && held[i].used_s < latest_s; i++)
        if (!is_needed(needed, held[i].name) && unlink(held[i].path) == 0) excess -= held[i].bytes;
}
