/* Inputs as their specifications say, bit for bit those of `feeds.py`, where the generator is described. */

#include "agent.h"

#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdlib.h>
#include <string.h>

#define ONNX(NAME) ONNX_TENSOR_ELEMENT_DATA_TYPE_##NAME
#define INTEGERS(X)                                                                                        \
    X(INT8, int8_t) X(INT16, int16_t) X(INT32, int32_t) X(INT64, int64_t) X(UINT8, uint8_t) X(UINT16, uint16_t) \
    X(UINT32, uint32_t) X(UINT64, uint64_t)

static const double HALF = 8388608, EXACT = 9007199254740992.0; /* whole numbers below the latter are exact */
static const struct {
    const char *name;
    int type;
    size_t bytes;
} KNOWN[] = {
    {"float32", ONNX(FLOAT), 4}, {"float16", ONNX(FLOAT16), 2}, {"float64", ONNX(DOUBLE), 8}, {"bool", ONNX(BOOL), 1},
    {"int64", ONNX(INT64), 8},   {"int32", ONNX(INT32), 4},     {"int16", ONNX(INT16), 2},    {"int8", ONNX(INT8), 1},
    {"uint64", ONNX(UINT64), 8}, {"uint32", ONNX(UINT32), 4},   {"uint16", ONNX(UINT16), 2},  {"uint8", ONNX(UINT8), 1},
};

/* IEEE half precision, rounded to nearest, ties to even. */
static uint16_t half_of(double number) {
    int exponent, sign = signbit(number) ? 0x8000 : 0;
    double size = fabs(number);
    if (isnan(number)) return 0x7E00;
    if (size >= 65520) return (uint16_t)(sign | 0x7C00);
    if (size < ldexp(1, -14)) return (uint16_t)(sign | (int)rint(ldexp(size, 24)));
    frexp(size, &exponent);
    return (uint16_t)(sign + ((exponent + 14) << 10) + (int)rint(ldexp(size, 11 - exponent)) - 1024);
}

static double real_of(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) size = fraction > 0 ? NAN : INFINITY;
    return half & 0x8000 ? -size : size;
}

static void store(void *data, int type, size_t index, double number) {
    switch (type) {
        case ONNX(FLOAT): ((float *)data)[index] = (float)number; return;
        case ONNX(DOUBLE): ((double *)data)[index] = number; return;
        case ONNX(FLOAT16): ((uint16_t *)data)[index] = half_of(number); return;
        case ONNX(BOOL): ((uint8_t *)data)[index] = number != 0; return;
        default: break;
    }
    if (!(fabs(number) < EXACT)) fail("ValueError", "%g is beyond the whole numbers of an input", number);
    int64_t whole_number = (int64_t)number;
    switch (type) {
#define STORE(NAME, c_type) \
    case ONNX(NAME): ((c_type *)data)[index] = (c_type)whole_number; return;
        INTEGERS(STORE)
    }
}

double value_at(const void *data, int type, size_t index) {
    switch (type) {
#define READ(NAME, c_type) \
    case ONNX(NAME): return (double)((const c_type *)data)[index];
        INTEGERS(READ)
        READ(FLOAT, float)
        READ(DOUBLE, double)
        READ(BOOL, uint8_t)
        case ONNX(FLOAT16): return real_of(((const uint16_t *)data)[index]);
        default: fail("ValueError", "outputs of ONNX's type %d cannot be read", type);
    }
}

/* A whole number of any length, modulo 2**32. */
static uint32_t modulo_32(const struct json *number, const char *name) {
    const char *digit = number->text;
    uint32_t modulo = 0;
    if (number->kind != JSON_NUMBER || strpbrk(digit, ".eE") != NULL) fail("ValueError", "'%s' must be whole", name);
    if (*digit == '-') digit++;
    for (; *digit != '\0'; digit++) modulo = modulo * 10 + (uint32_t)(*digit - '0');
    return number->text[0] == '-' ? 0 - modulo : modulo;
}

/* How values are made: one of the three fills. */
struct fill {
    const struct json *constant, *integers, *uniform;
    double number;
    uint32_t seed, modulus;
    float scale;
};

static struct fill fill_of(const char *name, const struct json *spec) {
    struct fill fill = {member(spec, "constant"), member(spec, "integers"), member(spec, "uniform"), 0, 0, 0, 0};
    if ((fill.constant != NULL) + (fill.integers != NULL) + (fill.uniform != NULL) != 1)
        fail("ValueError", "input '%s' must be filled by exactly one of constant, integers, uniform", name);
    if (fill.constant != NULL) {
        enum kind kind = fill.constant->kind;
        fill.number = kind == JSON_TRUE ? 1 : kind == JSON_FALSE ? 0 : real(fill.constant, "constant");
        return fill;
    }
    fill.seed = modulo_32(needed(spec, "seed", JSON_NUMBER), "seed");
    if (fill.uniform != NULL) fill.scale = (float)(real(fill.uniform, "uniform") / HALF);
    if (fill.integers == NULL) return fill;
    int64_t modulus = whole(fill.integers, "integers");
    if (modulus < 1 || modulus > UINT32_MAX) fail("ValueError", "'integers' must be 1 to 2**32 - 1 for input '%s'", name);
    fill.modulus = (uint32_t)modulus;
    return fill;
}

static double filled_value(const struct fill *fill, uint32_t index) {
    if (fill->constant != NULL) return fill->number;
    uint32_t x = fill->seed + index * 0x9E3779B9u;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    x = x ^ x >> 16;
    if (fill->integers != NULL) return x % fill->modulus;
    return ((float)(x >> 8) - (float)HALF) * fill->scale;
}

static int64_t *sizes_of(const struct json *list, const char *name, size_t unit, size_t *bytes) {
    int64_t *sizes = take((list->count + 1) * sizeof *sizes), *last = sizes;
    *bytes = unit;
    for (const struct json *each = list->first; each != NULL; each = each->next) {
        int64_t size = whole(each, "shape");
        if (size < 0 || __builtin_mul_overflow(*bytes, (size_t)size, bytes) || *bytes > SIZE_MAX / 2)
            fail("ValueError", "input '%s' has no such shape", name);
        *last++ = size;
    }
    return sizes;
}

struct tensor filled(const char *name, const struct json *spec) {
    static const char *const keys[] = {"dtype", "shape", "seed", "padded_to", "constant", "integers", "uniform"};
    const char *dtype = needed_text(spec, "dtype");
    const struct json *shape = needed(spec, "shape", JSON_LIST), *padded = member(spec, "padded_to");
    struct fill fill = fill_of(name, spec);
    size_t known = 0, count;
    for (const struct json *each = spec->first; each != NULL; each = each->next) {
        size_t key = 0;
        while (key < COUNT_OF(keys) && strcmp(keys[key], each->name) != 0) key++;
        if (key == COUNT_OF(keys)) fail("ValueError", "the spec of input '%s' has an unknown '%s'", name, each->name);
    }
    while (known < COUNT_OF(KNOWN) && strcmp(KNOWN[known].name, dtype) != 0) known++;
    if (known == COUNT_OF(KNOWN)) fail("TypeError", "input '%s' has the unknown type '%s'", name, dtype);

    struct tensor tensor = {KNOWN[known].type, shape->count, 0, NULL, NULL};
    int64_t *sizes = sizes_of(shape, name, 1, &count);
    if (padded != NULL) padded = needed(spec, "padded_to", JSON_LIST);
    tensor.shape = sizes_of(padded != NULL ? padded : shape, name, KNOWN[known].bytes, &tensor.bytes);
    bool fits = padded == NULL || padded->count == shape->count;
    for (size_t axis = 0; fits && axis < tensor.rank; axis++) fits = sizes[axis] <= tensor.shape[axis];
    if (!fits) fail("ValueError", "input '%s' cannot be padded to a smaller shape", name);

    tensor.data = own(tensor.bytes); /* zeros, where it is padded */
    int64_t *at = take((tensor.rank + 1) * sizeof *at);
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        for (size_t axis = 0; axis < tensor.rank; axis++)
            index = index * (size_t)tensor.shape[axis] + (size_t)at[axis];
        store(tensor.data, tensor.type, index, filled_value(&fill, (uint32_t)i));
        for (size_t axis = tensor.rank; axis-- > 0 && ++at[axis] == sizes[axis];) at[axis] = 0;
    }
    return tensor;
}
