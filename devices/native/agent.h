/* Parts of the agent that several of its files use.
 *
 * Errors: `fail` ends the request; the agent answers with its message and frees what the request took. What `take`
 * gives lives until the end of the request, what `own` gives until it is freed. */

#ifndef ADAPTARE_AGENT_H
#define ADAPTARE_AGENT_H

#define _GNU_SOURCE /* before any other header */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define FORMAT(position) __attribute__((format(printf, position, (position) + 1)))

/* agent.c: errors and memory. */
_Noreturn void fail(const char *kind, const char *format, ...) FORMAT(2);
void *take(size_t bytes);
char *taken(const char *format, ...) FORMAT(1);
void *own(size_t bytes);

/* json.c: one value of a request, in a list with its siblings; a number and a text keep their characters. */
enum kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT, JSON_LIST, JSON_OBJECT };
struct json {
    enum kind kind;
    const char *name, *text;
    size_t count;
    struct json *first, *next;
};
const struct json *parsed(const char *text, size_t length);
const struct json *member(const struct json *object, const char *name);
const struct json *needed(const struct json *object, const char *name, enum kind kind);
const char *needed_text(const struct json *object, const char *name);
const char *text_of(const struct json *element, const char *name);
bool needed_flag(const struct json *object, const char *name);
int64_t needed_size(const struct json *object, const char *name);
int64_t whole(const struct json *number, const char *name);
double real(const struct json *number, const char *name);

/* json.c: the reply, written piece by piece. */
struct reply {
    char *text;
    size_t length, room;
};
void put(struct reply *reply, const char *format, ...) FORMAT(2);
void put_bytes(struct reply *reply, const char *text, size_t length);
void put_text(struct reply *reply, const char *text);
void put_real(struct reply *reply, double number);

/* machine.c: the machine, by system files below `root`. */
void read_machine_below(const char *root);
double seconds_now(void);
double timer_step_s(void);
void restrict_to(const struct json *processors);
void report_machine(struct reply *reply, const struct json *request);

/* memory.c: memory of this process. */
int64_t private_bytes(void);
int64_t peak_bytes(void);
int64_t mapped_file_bytes(void);
void limit_memory(int64_t bytes);

/* files.c: files on the device. */
int64_t file_bytes(const char *path);
bool forget(const char *path);
void open_files(const char *folder);
const char *in_folder(const char *name);
const char *whole_text(const char *path, size_t *length);
const char *stored(const char *digest);
bool is_stored(const char *digest);
const char *placed(const struct json *files);
const char *copied(const char *folder, const struct json *files);
void remove_copy(void);

/* room.c: bound on these files. */
void note_use(const char *path);
void bound_files(const struct json *needed);

/* feeds.c: inputs, bit for bit those of the agent in Python. */
struct tensor {
    int type; /* of ONNX */
    size_t rank, bytes;
    int64_t *shape;
    void *data; /* its owner frees it */
};
struct tensor filled(const char *name, const struct json *spec);
double value_at(const void *data, int type, size_t index);

/* library.c: ONNX Runtime. */
struct model;
struct bound;
void open_library(const char *path);
const char *runtime_version(void);
void set_up(int threads, const struct json *options);
void put_providers(struct reply *reply);

/* runtime.c: programs, by ONNX Runtime's C API. */
struct model *load_model(const char *path, const struct json *arguments, bool copy);
void free_model(struct model *model); /* and all that is bound to it */
struct bound *bind_feed(struct model *model, const struct json *arguments);
void *call(struct bound *bound); /* NULL, or for: */
void check_call(void *failure);
void put_output(struct reply *reply, const struct bound *bound);

/* nodes.c: which provider runs what. */
void count_assigned(struct model *model);
void put_nodes(struct reply *reply, const struct model *model);

/* programs.c: operations on programs. */
void limit_programs(int64_t bytes);
void finish_load(void);
void load(struct reply *reply, const struct json *request);
void run(struct reply *reply, const struct json *request);
void unload(const struct json *request);

#endif
