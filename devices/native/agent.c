/* The agent: loads programs and times calls, controlled by JSON lines over stdin and stdout; see `agent/server.py`.
 *
 *     agent LIBRARY [FOLDER [ROOT]]
 *
 * LIBRARY is ONNX Runtime's shared library, FOLDER holds the files of programs, ROOT has the system's `proc` and `sys`.
 * Without FOLDER, it only opens the library and prints its version.
 * Each reply repeats the number of its request, every list has its length, the end is an explicit message. Requests
 * that are malformed, too long, or numbered no higher than an earlier one are refused. */

#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LONGEST_REQUEST = 1 << 26,
    MOST_THREADS = 4096,
    CHUNK_BYTES = 1 << 16,
    RESERVED_BYTES = 1 << 15,
    STACK_BYTES = 1 << 16
};
static const int64_t MOST_BYTES = INT64_MAX / 4;

struct chunk {
    struct chunk *next;
    size_t used, room;
    _Alignas(max_align_t) char bytes[];
};

static jmp_buf end_of_request;
static char error_kind[32], error_text[4096];
static struct chunk *chunks;
static struct reply reply;
static int64_t last_sequence, sequence;
static bool numbered, greeted, ended;
static char unusable[sizeof error_text]; /* why nothing can be served */
static char *line;
static size_t line_room;

_Noreturn void fail(const char *kind, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(error_text, sizeof error_text, format, values);
    va_end(values);
    snprintf(error_kind, sizeof error_kind, "%s", kind);
    longjmp(end_of_request, 1);
}

void *own(size_t bytes) {
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (memory == NULL) fail("out of memory", "no room for %zu bytes", bytes);
    return memory;
}

void *take(size_t bytes) {
    const size_t unit = _Alignof(max_align_t), whole_units = (bytes + unit - 1) / unit * unit;
    if (chunks == NULL || chunks->room - chunks->used < whole_units) {
        size_t room = whole_units > CHUNK_BYTES ? whole_units : CHUNK_BYTES;
        struct chunk *chunk = own(sizeof *chunk + room);
        *chunk = (struct chunk){.next = chunks, .room = room};
        chunks = chunk;
    }
    void *memory = chunks->bytes + chunks->used;
    chunks->used += whole_units;
    return memory;
}

char *taken(const char *format, ...) {
    va_list values, again;
    va_start(values, format);
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, values);
    va_end(values);
    char *text = take((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

static void free_taken(void) {
    for (struct chunk *next, *chunk = chunks; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    chunks = NULL;
}

/* Sets processors, threads and memory before anything is loaded, and reports the facts about the runtime. */
static void hello(const struct json *request) {
    const struct json *options = needed(request, "options", JSON_OBJECT);
    const struct json *processors = needed(request, "processors", JSON_LIST);
    int64_t threads = needed_size(request, "threads"), memory_bytes = needed_size(request, "memory_bytes");
    if (memory_bytes == 0) memory_bytes = needed_size(request, "free_bytes");
    if (greeted) fail("ValueError", "hello was answered already");
    if (threads < 1 || threads > MOST_THREADS) fail("ValueError", "'threads' must be 1 to %d", MOST_THREADS);
    restrict_to(processors);
    set_up((int)threads, options);
    limit_programs(memory_bytes < MOST_BYTES ? memory_bytes : MOST_BYTES);
    greeted = true;

    put(&reply, ", \"runtime\": \"onnxruntime %s\", \"threads\": %lld, \"timer_step_s\": ", runtime_version(),
        (long long)threads);
    put_real(&reply, timer_step_s());
    put(&reply, ", ");
    put_providers(&reply);
    put(&reply, ", \"capabilities\": [\"forget\"]");
}

static void machine(const struct json *request) { report_machine(&reply, request); }

/* Lists the files to transfer before a program can be loaded; room is made for those. */
static void missing(const struct json *request) {
    const struct json *digests = needed(request, "digests", JSON_LIST);
    const char *between = "";
    put(&reply, ", \"missing\": [");
    for (const struct json *each = digests->first; each != NULL; each = each->next) {
        if (is_stored(text_of(each, "digests"))) {
            note_use(stored(each->text));
            continue;
        }
        put(&reply, "%s", between);
        put_text(&reply, each->text);
        between = ", ";
    }
    put(&reply, "]");
    if (*between != '\0') bound_files(digests);
}

/* Drops files from the page cache, so that the next load reads them from storage. */
static void forget_files(const struct json *request) {
    const struct json *digests = needed(request, "digests", JSON_LIST);
    bool done = digests->count > 0;
    for (const struct json *each = digests->first; each != NULL; each = each->next)
        done = forget(stored(text_of(each, "digests"))) && done;
    put(&reply, ", \"forgotten\": %s", done ? "true" : "false");
}

static void load_program(const struct json *request) { load(&reply, request); }

static void run_program(const struct json *request) { run(&reply, request); }

static void end(const struct json *request) {
    (void)request;
    put(&reply, ", \"end\": true");
    ended = true;
}

static const struct {
    const char *name;
    void (*answer)(const struct json *request);
} OPERATIONS[] = {
    {"machine", machine}, {"hello", hello},     {"missing", missing}, {"forget", forget_files},
    {"load", load_program}, {"run", run_program}, {"unload", unload},   {"close", end},
};

/* The request's number is repeated even if the rest of it is refused. */
static void answer(const char *text, size_t length) {
    if (length > LONGEST_REQUEST) fail("ValueError", "a request has at most %d bytes, not %zu", LONGEST_REQUEST, length);
    const struct json *request = parsed(text, length);
    sequence = needed_size(request, "seq");
    numbered = true;
    if (sequence <= last_sequence) fail("ValueError", "request %lld came before", (long long)sequence);
    last_sequence = sequence;
    const char *name = needed_text(request, "op");
    size_t known = 0;
    while (known < COUNT_OF(OPERATIONS) && strcmp(OPERATIONS[known].name, name) != 0) known++;
    if (known == COUNT_OF(OPERATIONS)) fail("ValueError", "there is no operation '%s'", name);
    void (*answer)(const struct json *request) = OPERATIONS[known].answer;
    if (*unusable != '\0' && answer != end) fail("OSError", "%s", unusable);
    if (!greeted && answer != machine && answer != hello && answer != end)
        fail("ValueError", "'hello' comes before '%s'", name);
    put(&reply, "{\"seq\": %lld, \"ok\": true", (long long)sequence);
    answer(request);
    put(&reply, "}\n");
}

static void put_failure(void) {
    static char text[sizeof error_kind + sizeof error_text + 2];
    bool option = strcmp(error_kind, "option") == 0;
    snprintf(text, sizeof text, "%s%s%s", option ? "" : error_kind, option ? "" : ": ", error_text);
    reply.length = 0;
    put(&reply, "{\"seq\": ");
    if (numbered)
        put(&reply, "%lld", (long long)sequence);
    else
        put(&reply, "null");
    put(&reply, ", \"ok\": false, \"error\": ");
    put_text(&reply, text);
    put(&reply, "%s}\n", option ? ", \"cause\": \"option\"" : "");
}

/* Bytes of the next line, of which at most one more than the longest request are kept; -1 at the end. */
static ssize_t read_line(void) {
    size_t length = 0;
    int byte;
    while ((byte = getc_unlocked(stdin)) != EOF && byte != '\n') {
        if (length == line_room && length <= LONGEST_REQUEST) {
            char *more = realloc(line, 2 * line_room + 4096);
            if (more == NULL) return -1;
            line = more;
            line_room = 2 * line_room + 4096;
        }
        if (length < line_room) line[length] = (char)byte;
        length++;
    }
    return byte == EOF ? -1 : (ssize_t)length;
}

static bool written(int replies) {
    for (size_t done = 0; done < reply.length;) {
        ssize_t more = write(replies, reply.text + done, reply.length - done);
        if (more < 0 && errno != EINTR) return false;
        if (more > 0) done += (size_t)more;
    }
    return true;
}

/* Answers requests until the explicit end or the end of the stream. */
static void serve(int replies) {
    ssize_t length;
    while (!ended && (length = read_line()) >= 0) {
        reply.length = 0;
        numbered = false;
        if (setjmp(end_of_request) == 0) {
            answer(line, (size_t)length);
        } else {
            put_failure();
            finish_load();
        }
        free_taken();
        if (!written(replies)) return;
    }
}

/* Ends this process as soon as nobody can read its replies any more, even during a call that never returns. */
static void *end_unheard(void *replies) {
    struct pollfd heard = {*(int *)replies, 0, 0}; /* errors and the end are always reported */
    while (poll(&heard, 1, -1) < 0 && errno == EINTR) continue;
    _exit(1);
}

int main(int argc, char **argv) {
    static int replies;
    pthread_attr_t small;
    pthread_t listener;
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: agent LIBRARY [FOLDER [ROOT]]\n");
        return 2;
    }
    replies = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* output of libraries is no part of the protocol */
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    if (pthread_create(&listener, &small, end_unheard, &replies) != 0) return 1;
    if (setjmp(end_of_request) == 0) {
        put(&reply, "%*s", RESERVED_BYTES, ""); /* an error can be told even without memory */
        if (argc == 4) read_machine_below(argv[3]);
        if (argc > 2) open_files(argv[2]);
        open_library(argv[1]);
    } else {
        memcpy(unusable, error_text, sizeof unusable);
    }
    free_taken();
    if (argc == 2) {
        fprintf(stderr, "%s%s\n", *unusable != '\0' ? "" : "onnxruntime ", *unusable != '\0' ? unusable : runtime_version());
        return *unusable != '\0';
    }
    serve(replies);
    return 0;
}
