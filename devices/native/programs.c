/* Programs: loaded in as many copies as are called in turn, bound to their feeds, timed. */

#include "agent.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_COPIES = 256, MOST_CALLS = 10000000 };

struct feed {
    char *name;
    struct bound **copies;
    size_t turn;
    int64_t between_bytes;
};

struct program {
    char *id;
    size_t models_count, feeds_count;
    struct model **models;
    struct feed *feeds;
    struct program *next;
};

static struct program *programs, *unfinished;
static int64_t memory_limit = INT64_MAX / 2;
static char *other_memory; /* read in place of the rest of the model of a stub */
static size_t other_bytes;
static volatile bool found_in_other;

static char *owned(const char *text) { return strcpy(own(strlen(text) + 1), text); }

static void free_program(struct program *program) {
    for (size_t i = 0; i < program->models_count; i++)
        if (program->models[i] != NULL) free_model(program->models[i]);
    for (size_t i = 0; i < program->feeds_count; i++) {
        free(program->feeds[i].name);
        free(program->feeds[i].copies);
    }
    free(program->models);
    free(program->feeds);
    free(program->id);
    free(program);
}

static struct program **find(const char *id) {
    struct program **found = &programs;
    while (*found != NULL && strcmp((*found)->id, id) != 0) found = &(*found)->next;
    return found;
}

static struct program **loaded(const struct json *request) {
    const char *id = needed_text(request, "program_id");
    struct program **found = find(id);
    if (*found == NULL) fail("LookupError", "no program '%s' is loaded", id);
    return found;
}

void limit_programs(int64_t bytes) {
    memory_limit = bytes;
    limit_memory(bytes);
}

/* Ends a load that failed, and lets the limit follow the file mappings that remain. */
void finish_load(void) {
    remove_copy();
    if (unfinished != NULL) free_program(unfinished);
    unfinished = NULL;
    limit_memory(memory_limit + mapped_file_bytes());
}

static void load_models(struct program *program, const struct json *request, const char *folder) {
    const struct json *files = needed(request, "files", JSON_OBJECT);
    const struct json *arguments = needed(request, "arguments", JSON_OBJECT);
    const char *source = needed_text(request, "source");
    for (size_t i = 0; i < program->models_count; i++) {
        bool copy = program->models_count > 1;
        const char *place = copy ? copied(folder, files) : folder;
        program->models[i] = load_model(taken("%s/%s", place, source), arguments, copy);
        count_assigned(program->models[i]);
        remove_copy();
    }
}

/* Binds a feed to every copy, and calls each once. */
static void bind_copies(struct reply *reply, struct program *program, struct feed *feed, const struct json *spec,
                        double *bind_s, double *first_call_s) {
    const struct json *arguments = needed(spec, "arguments", JSON_OBJECT);
    double start = seconds_now();
    feed->copies = own(program->models_count * sizeof *feed->copies);
    for (size_t i = 0; i < program->models_count; i++) feed->copies[i] = bind_feed(program->models[i], arguments);
    double called = seconds_now();
    void *failure = call(feed->copies[0]);
    *first_call_s = seconds_now() - called;
    *bind_s = called - start;
    check_call(failure);
    put_text(reply, feed->name);
    put(reply, ": ");
    put_output(reply, feed->copies[0]);
    for (size_t i = 1; i < program->models_count; i++) check_call(call(feed->copies[i]));
}

static void put_seconds(struct reply *reply, const char *name, const struct program *program, const double *seconds) {
    put(reply, ", \"%s\": {", name);
    for (size_t i = 0; i < program->feeds_count; i++) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_text(reply, program->feeds[i].name);
        put(reply, ": ");
        put_real(reply, seconds[i]);
    }
    put(reply, "}");
}

static void need_other_memory(int64_t bytes) {
    if ((size_t)bytes <= other_bytes) return;
    free(other_memory);
    other_bytes = 0;
    other_memory = own((size_t)bytes);
    memset(other_memory, '1', (size_t)bytes);
    other_bytes = (size_t)bytes;
}

/* Builds a program, in as many copies as are called in turn, and binds its feeds. */
void load(struct reply *reply, const struct json *request) {
    const struct json *files = needed(request, "files", JSON_OBJECT), *feeds = needed(request, "feeds", JSON_LIST);
    const char *id = needed_text(request, "program_id"), *source = needed_text(request, "source");
    int64_t copies = needed_size(request, "copies"), between = needed_size(request, "between_bytes"), mapped = 0;
    if (copies < 1 || copies > MOST_COPIES) fail("ValueError", "'copies' must be 1 to %d", MOST_COPIES);
    if (*find(id) != NULL) fail("ValueError", "program '%s' is loaded already", id);
    if (member(files, source) == NULL) fail("ValueError", "the program has no file '%s'", source);
    const char *folder = placed(files);
    for (const struct json *each = files->first; each != NULL; each = each->next)
        if (strcmp(each->name, source) != 0) mapped += file_bytes(taken("%s/%s", folder, each->name));

    struct program *program = unfinished = own(sizeof *program);
    program->id = owned(id);
    program->models_count = (size_t)copies;
    program->models = own(program->models_count * sizeof *program->models);
    program->feeds = own(feeds->count * sizeof *program->feeds);
    limit_memory(memory_limit + mapped_file_bytes() + (int64_t)program->models_count * mapped);
    double *bind_s = take(feeds->count * sizeof *bind_s), *first_call_s = take(feeds->count * sizeof *first_call_s);
    int64_t before = private_bytes();

    double start = seconds_now();
    load_models(program, request, folder);
    put(reply, ", \"outputs\": {");
    for (const struct json *each = feeds->first; each != NULL; each = each->next) {
        size_t index = program->feeds_count++;
        struct feed *feed = &program->feeds[index];
        put(reply, "%s", index > 0 ? ", " : "");
        feed->name = owned(needed_text(each, "name"));
        feed->between_bytes = between;
        bind_copies(reply, program, feed, each, &bind_s[index], &first_call_s[index]);
        need_other_memory(feed->between_bytes);
    }
    put(reply, "}, \"load_s\": ");
    put_real(reply, seconds_now() - start);
    put_seconds(reply, "bind_s", program, bind_s);
    put_seconds(reply, "first_call_s", program, first_call_s);
    put(reply, ", ");
    put_nodes(reply, program->models[0]);
    int64_t resident = private_bytes() - before;
    put(reply, ", \"resident_bytes\": %lld, \"peak_bytes\": %lld", (long long)(resident > 0 ? resident : 0),
        (long long)peak_bytes());
    program->next = programs;
    programs = program;
    unfinished = NULL;
    finish_load();
}

/* Times each call. */
void run(struct reply *reply, const struct json *request) {
    const struct program *program = *loaded(request);
    const char *feed_id = needed_text(request, "feed_id"), *known = "";
    int64_t calls = needed_size(request, "calls");
    struct feed *feed = NULL;
    for (size_t i = 0; i < program->feeds_count; i++) {
        if (strcmp(program->feeds[i].name, feed_id) == 0) feed = &program->feeds[i];
        known = taken("%s%s%s", known, i > 0 ? ", " : "", program->feeds[i].name);
    }
    if (feed == NULL) fail("LookupError", "the program has no feed '%s'; it has %s", feed_id, known);
    if (calls > MOST_CALLS) fail("ValueError", "calls must be at most %d, not %lld", MOST_CALLS, (long long)calls);
    double *seconds = take((size_t)calls * sizeof *seconds);
    for (int64_t i = 0; i < calls; i++) {
        struct bound *bound = feed->copies[feed->turn];
        feed->turn = (feed->turn + 1) % program->models_count;
        if (feed->between_bytes > 0)
            found_in_other = memchr(other_memory, '0', (size_t)feed->between_bytes) != NULL;
        double start = seconds_now();
        void *failure = call(bound);
        seconds[i] = seconds_now() - start;
        check_call(failure);
    }
    put(reply, ", \"count\": %lld, \"seconds\": [", (long long)calls);
    for (int64_t i = 0; i < calls; i++) {
        put(reply, "%s", i > 0 ? ", " : "");
        put_real(reply, seconds[i]);
    }
    put(reply, "]");
}

void unload(const struct json *request) {
    struct program **found = loaded(request), *program = *found;
    *found = program->next;
    free_program(program);
}
