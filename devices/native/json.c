/* A strict reader of JSON: ASCII, unique keys, no value beyond what the protocol needs; and the writer of replies. */

#include "agent.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32, MOST_KEYS = 10000, LONGEST_NUMBER = 64 };

struct reader {
    const char *at, *start, *end;
    int depth;
};

_Noreturn static void broken(const struct reader *reader, const char *expected) {
    fail("ValueError", "the request is no JSON: %s expected at character %zu", expected,
         (size_t)(reader->at - reader->start));
}

static void skip_space(struct reader *reader) {
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != '\0') reader->at++;
}

static char peek(const struct reader *reader) { return reader->at < reader->end ? *reader->at : '\0'; }

static bool accepts(struct reader *reader, char character) {
    skip_space(reader);
    if (peek(reader) != character) return false;
    reader->at++;
    return true;
}

static unsigned hex4(struct reader *reader) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        char digit = (char)tolower((unsigned char)peek(reader));
        if (!isxdigit((unsigned char)digit)) broken(reader, "a hexadecimal digit");
        code = code * 16 + (unsigned)(isdigit((unsigned char)digit) ? digit - '0' : digit - 'a' + 10);
    }
    return code;
}

/* The character after \u, of two units where it needs them, as UTF-8. */
static char *unescaped(struct reader *reader, char *to) {
    unsigned code = hex4(reader);
    if (code >= 0xD800 && code < 0xDC00) {
        if (peek(reader) != '\\' || reader->end - reader->at < 2 || reader->at[1] != 'u')
            broken(reader, "the second half of a character");
        reader->at += 2;
        unsigned low = hex4(reader);
        if (low < 0xDC00 || low > 0xDFFF) broken(reader, "the second half of a character");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    } else if (code == 0 || (code >= 0xDC00 && code <= 0xDFFF)) {
        broken(reader, "a character other than NUL and halves");
    }
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
    *to++ = (char)(lead[more] | (code >> (6 * more)));
    while (more-- > 0) *to++ = (char)(0x80 | ((code >> (6 * more)) & 0x3F));
    return to;
}

static const char *read_text(struct reader *reader) {
    if (!accepts(reader, '"')) broken(reader, "a string");
    const char *close = reader->at;
    while (close < reader->end && *close != '"') close += *close == '\\' ? 2 : 1;
    if (close >= reader->end) broken(reader, "the end of a string");
    char *text = take((size_t)(close - reader->at) + 1), *to = text; /* no escape is longer than its character */
    while (reader->at < close) {
        char character = *reader->at++;
        if ((unsigned char)character < 0x20 || (unsigned char)character > 0x7E) broken(reader, "printable ASCII");
        if (character != '\\') {
            *to++ = character;
            continue;
        }
        static const char codes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        char code = *reader->at++;
        const char *known = code != '\0' ? strchr(codes, code) : NULL;
        if (known != NULL)
            *to++ = meant[known - codes];
        else if (code == 'u')
            to = unescaped(reader, to);
        else
            broken(reader, "a known escape");
    }
    *to = '\0';
    reader->at = close + 1;
    return text;
}

static void skip_digits(struct reader *reader) {
    if (!isdigit((unsigned char)peek(reader))) broken(reader, "a digit");
    while (isdigit((unsigned char)peek(reader))) reader->at++;
}

static const char *read_number(struct reader *reader) {
    const char *start = reader->at;
    if (peek(reader) == '-') reader->at++;
    if (peek(reader) == '0')
        reader->at++;
    else
        skip_digits(reader);
    if (peek(reader) == '.') {
        reader->at++;
        skip_digits(reader);
    }
    if (peek(reader) == 'e' || peek(reader) == 'E') {
        reader->at++;
        if (peek(reader) == '+' || peek(reader) == '-') reader->at++;
        skip_digits(reader);
    }
    if (reader->at - start > LONGEST_NUMBER) broken(reader, "a shorter number");
    return taken("%.*s", (int)(reader->at - start), start);
}

static void read_value(struct reader *reader, struct json *value);

/* Values of a list or an object, up to the character that closes it. */
static void read_values(struct reader *reader, struct json *value, char close) {
    if (++reader->depth > DEEPEST) broken(reader, "less nesting");
    struct json **last = &value->first;
    bool more = !accepts(reader, close);
    while (more) {
        struct json *next = take(sizeof *next);
        if (close == '}') {
            next->name = read_text(reader);
            if (member(value, next->name) != NULL) broken(reader, "no key twice");
            if (value->count == MOST_KEYS) broken(reader, "an object of fewer keys");
            if (!accepts(reader, ':')) broken(reader, "a colon");
        }
        read_value(reader, next);
        *last = next;
        last = &next->next;
        value->count++;
        more = accepts(reader, ',');
        if (!more && !accepts(reader, close)) broken(reader, "a comma or the end of a list or object");
    }
    reader->depth--;
}

static bool accepts_word(struct reader *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0) return false;
    reader->at += length;
    return true;
}

static void read_value(struct reader *reader, struct json *value) {
    skip_space(reader);
    char next = peek(reader);
    if (next == '{' || next == '[') {
        reader->at++;
        value->kind = next == '{' ? JSON_OBJECT : JSON_LIST;
        read_values(reader, value, next == '{' ? '}' : ']');
    } else if (next == '"') {
        value->kind = JSON_TEXT;
        value->text = read_text(reader);
    } else if (next == '-' || isdigit((unsigned char)next)) {
        value->kind = JSON_NUMBER;
        value->text = read_number(reader);
    } else if (accepts_word(reader, "true")) {
        value->kind = JSON_TRUE;
    } else if (accepts_word(reader, "false")) {
        value->kind = JSON_FALSE;
    } else if (!accepts_word(reader, "null")) { /* kind 0 */
        broken(reader, "a value");
    }
}

const struct json *parsed(const char *text, size_t length) {
    struct reader reader = {text, text, text + length, 0};
    struct json *value = take(sizeof *value);
    read_value(&reader, value);
    skip_space(&reader);
    if (reader.at != reader.end) broken(&reader, "the end");
    return value;
}

const struct json *member(const struct json *object, const char *name) {
    const struct json *found = object->kind == JSON_OBJECT ? object->first : NULL;
    while (found != NULL && strcmp(found->name, name) != 0) found = found->next;
    return found;
}

const struct json *needed(const struct json *object, const char *name, enum kind kind) {
    static const char *const words[] = {"null", "false", "true", "a number", "a string", "a list", "an object"};
    const struct json *found = member(object, name);
    if (found == NULL) fail("ValueError", "the request lacks '%s'", name);
    if (found->kind != kind) fail("ValueError", "'%s' must be %s, not %s", name, words[kind], words[found->kind]);
    return found;
}

/* Text of an element of the list with this name. */
const char *text_of(const struct json *element, const char *name) {
    if (element->kind != JSON_TEXT) fail("ValueError", "'%s' must be a list of strings", name);
    return element->text;
}

const char *needed_text(const struct json *object, const char *name) { return needed(object, name, JSON_TEXT)->text; }

bool needed_flag(const struct json *object, const char *name) {
    const struct json *found = member(object, name);
    return !(found != NULL && found->kind == JSON_FALSE) && needed(object, name, JSON_TRUE) != NULL;
}

int64_t needed_size(const struct json *object, const char *name) {
    int64_t size = whole(needed(object, name, JSON_NUMBER), name);
    if (size < 0) fail("ValueError", "'%s' must be at least 0, not %lld", name, (long long)size);
    return size;
}

int64_t whole(const struct json *number, const char *name) {
    char *end = NULL;
    if (number->kind != JSON_NUMBER) fail("ValueError", "'%s' must be a whole number", name);
    errno = 0;
    long long found = strtoll(number->text, &end, 10);
    if (errno != 0 || *end != '\0') fail("ValueError", "'%s' must be a whole number, not %s", name, number->text);
    return found;
}

double real(const struct json *number, const char *name) {
    if (number->kind != JSON_NUMBER) fail("ValueError", "'%s' must be a number", name);
    return strtod(number->text, NULL);
}

static void make_room(struct reply *reply, size_t more) {
    if (reply->length + more < reply->room) return;
    size_t room = 2 * (reply->length + more) + 4096;
    char *text = realloc(reply->text, room);
    if (text == NULL) fail("out of memory", "no room for a reply of %zu bytes", room);
    reply->text = text;
    reply->room = room;
}

void put(struct reply *reply, const char *format, ...) {
    va_list values, again;
    va_start(values, format);
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, values);
    va_end(values);
    make_room(reply, (size_t)length + 1);
    vsnprintf(reply->text + reply->length, (size_t)length + 1, format, again);
    va_end(again);
    reply->length += (size_t)length;
}

void put_bytes(struct reply *reply, const char *text, size_t length) {
    make_room(reply, 6 * length + 3);
    char *to = reply->text + reply->length;
    *to++ = '"';
    for (size_t i = 0; i < length; i++) {
        unsigned char character = (unsigned char)text[i];
        if (character == '"' || character == '\\') *to++ = '\\';
        if (character >= 0x20)
            *to++ = text[i];
        else
            to += sprintf(to, "\\u%04x", character);
    }
    *to++ = '"';
    *to = '\0';
    reply->length = (size_t)(to - reply->text);
}

void put_text(struct reply *reply, const char *text) { put_bytes(reply, text, strlen(text)); }

/* Not all numbers are in JSON; the spelling of the others is that of Python's json. */
void put_real(struct reply *reply, double number) {
    if (isfinite(number))
        put(reply, "%.17g", number);
    else
        put(reply, "%s", isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
}
