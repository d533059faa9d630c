/* Program files on the device: `files/DIGEST` for every content, and a folder of links for every program. */

#include "agent.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { COPIED_BYTES = 1 << 20 };

static const char *device_folder, *copy_folder;
static const struct json *copied_files;

_Noreturn static void fail_for(const char *path) { fail("OSError", "%s: '%s'", strerror(errno), path); }

static void make_folder(const char *path) {
    if (mkdir(path, 0777) != 0 && errno != EEXIST) fail_for(path);
}

void open_files(const char *folder) {
    device_folder = folder;
    make_folder(folder);
    make_folder(taken("%s/files", folder));
    make_folder(taken("%s/programs", folder));
}

const char *in_folder(const char *name) { return taken("%s/%s", device_folder, name); }

const char *whole_text(const char *path, size_t *length) {
    size_t bytes = (size_t)file_bytes(path);
    char *text = take(bytes + 1);
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_for(path);
    *length = fread(text, 1, bytes, file);
    fclose(file);
    return text;
}

const char *stored(const char *digest) {
    const char *end = digest;
    while (isalnum((unsigned char)*end)) end++;
    if (*end != '\0' || end == digest || end - digest > NAME_MAX) fail("ValueError", "'%s' is no content hash", digest);
    return taken("%s/files/%s", device_folder, digest);
}

bool is_stored(const char *digest) { return access(stored(digest), F_OK) == 0; }

int64_t file_bytes(const char *path) {
    struct stat facts;
    if (stat(path, &facts) != 0) fail_for(path);
    return facts.st_size;
}

/* True for a file in memory: its file system has no storage but the page cache. */
static bool is_in_memory(int file) {
    struct statfs facts;
    return fstatfs(file, &facts) == 0 && (facts.f_type == TMPFS_MAGIC || facts.f_type == RAMFS_MAGIC);
}

/* Drops a file from the page cache, as if it had not been read since system start. */
bool forget(const char *path) {
    int file = open(path, O_RDONLY);
    if (file < 0) fail_for(path);
    bool done = !is_in_memory(file) && fsync(file) == 0 && posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0;
    close(file);
    return done;
}

static void copy_content(const char *source, const char *target) {
    char *part = take(COPIED_BYTES);
    int from = open(source, O_RDONLY), to = from < 0 ? -1 : open(target, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ssize_t length = to < 0 ? -1 : 1;
    while (length > 0 && (length = read(from, part, COPIED_BYTES)) > 0)
        for (ssize_t written = 0; length > 0 && written < length;) {
            ssize_t more = write(to, part + written, (size_t)(length - written));
            if (more < 0)
                length = -1;
            else
                written += more;
        }
    int error = errno;
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    errno = error;
    if (length < 0) fail_for(to < 0 && from < 0 ? source : target);
}

static void check_name(const char *name) {
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/') != NULL)
        fail("ValueError", "'%s' is no plain file name", name);
}

/* FNV-1a, by which a program finds the folder of its links again. */
static uint64_t key_of(const struct json *files) {
    uint64_t key = 0xCBF29CE484222325u;
    for (const struct json *each = files->first; each != NULL; each = each->next)
        for (const char *at = taken("%s/%s\n", each->name, each->text); *at != '\0'; at++)
            key = (key ^ (unsigned char)*at) * 0x100000001B3u;
    return key;
}

static const char *resolved(const char *path) {
    char *whole_path = realpath(path, NULL);
    if (whole_path == NULL) fail_for(path);
    const char *kept = taken("%s", whole_path);
    free(whole_path);
    return kept;
}

static bool same_folder(const char *one, const char *other) {
    size_t length = (size_t)(strrchr(one, '/') - one);
    return length == (size_t)(strrchr(other, '/') - other) && strncmp(one, other, length) == 0;
}

/* In the first way that the system permits. ONNX Runtime resolves links, and rejects data that are then outside the
 * folder of their graph. */
static void place(const char *content, const char *path, bool alike) {
    /* A link to a file that is gone. */
    if (access(path, F_OK) != 0 && unlink(path) != 0 && errno != ENOENT) fail_for(path);
    if (alike && (symlink(content, path) == 0 || errno == EEXIST)) return;
    if (link(content, path) == 0 || errno == EEXIST) return;
    const char *part = taken("%s.%d.part", path, (int)getpid());
    copy_content(content, part);
    if (rename(part, path) != 0) fail_for(path);
}

/* A folder with the stored files under these names, so that files can refer to each other by name. */
const char *placed(const struct json *files) {
    const char *folder = taken("%s/programs/%016llx", device_folder, (unsigned long long)key_of(files)), *first = NULL;
    bool alike = true;
    for (const struct json *each = files->first; each != NULL; each = each->next) {
        check_name(each->name);
        if (each->kind != JSON_TEXT) fail("ValueError", "the content hash of '%s' must be a string", each->name);
        if (!is_stored(each->text)) fail("FileNotFoundError", "file '%s' was not brought: %s", each->name, each->text);
        note_use(stored(each->text));
        const char *content = resolved(stored(each->text));
        alike = alike && (first == NULL || same_folder(first, content));
        first = content;
    }
    make_folder(folder);
    note_use(folder);
    for (const struct json *each = files->first; each != NULL; each = each->next)
        place(resolved(stored(each->text)), taken("%s/%s", folder, each->name), alike);
    note_use(folder);
    return folder;
}

/* Copies of these files, in a folder of their own, so that no weights are shared with other copies. */
const char *copied(const char *folder, const struct json *files) {
    char *path = taken("%s/copy-XXXXXX", device_folder);
    if (mkdtemp(path) == NULL) fail_for(path);
    copy_folder = path;
    copied_files = files;
    for (const struct json *each = files->first; each != NULL; each = each->next)
        copy_content(taken("%s/%s", folder, each->name), taken("%s/%s", path, each->name));
    return path;
}

/* Removes what the request copied last; content that is mapped stays until it is unmapped. */
void remove_copy(void) {
    if (copy_folder == NULL) return;
    for (const struct json *each = copied_files->first; each != NULL; each = each->next) {
        char path[PATH_MAX]; /* there may be no memory left */
        if (snprintf(path, sizeof path, "%s/%s", copy_folder, each->name) < (int)sizeof path) unlink(path);
    }
    rmdir(copy_folder);
    copy_folder = NULL;
}
