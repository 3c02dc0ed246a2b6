/* The plain form of the member `simprints` of an asset, from JSON to packed simprints in one pass.

   pack(json) -> None | dict of type name -> (width, packed): for each chunk its body, offset and size, these two as 4 bytes big-endian

   None stands for whatever is not plain and right: an escape in a text, a member that is missing, double or unknown, a number that is not
   written as digits, a simprint that is none or of another width than the first. The caller then decodes as always, and says what is wrong. */

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH_MAX 32
#define PLACE_BYTES 8
#define TYPE_NAME_MAX 64

typedef struct {
    const char *at, *end;
} Text;

typedef struct {
    unsigned char *bytes;
    size_t length, capacity;
} Packed;

typedef struct {
    unsigned char body[WIDTH_MAX];
    size_t width;
    uint32_t offset, size;
} Chunk;

static unsigned char digits[256]; /* of base64, standard and url-safe; 64 for everything else. Filled once, at import */

static void fill_digits(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(digits, 64, sizeof(digits));
    for (unsigned char i = 0; i < 64; i++)
        digits[(unsigned char)alphabet[i]] = i;
    digits['-'] = 62;
    digits['_'] = 63;
}

/* ---- JSON: each reads what it is named after and returns 0, or returns -1 ---- */

static void skip_space(Text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
}

/* One character with space around it. */
static int read_mark(Text *text, char mark)
{
    skip_space(text);
    if (text->at == text->end || *text->at != mark)
        return -1;
    text->at++;
    skip_space(text);
    return 0;
}

/* A string without escapes. */
static int read_string(Text *text, const char **start, size_t *length)
{
    if (text->at == text->end || *text->at != '"')
        return -1;
    *start = ++text->at;
    while (text->at < text->end && *text->at != '"') {
        if (*text->at == '\\' || (unsigned char)*text->at < ' ')
            return -1;
        text->at++;
    }
    if (text->at == text->end)
        return -1;
    *length = (size_t)(text->at++ - *start);
    return 0;
}

static int read_uint32(Text *text, uint32_t *value)
{
    const char *start = text->at;
    uint64_t sum = 0;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9' && text->at - start < 11)
        sum = sum * 10 + (uint64_t)(*text->at++ - '0');
    if (text->at == start || sum > UINT32_MAX || (*start == '0' && text->at - start > 1))
        return -1;
    *value = (uint32_t)sum;
    return 0;
}

/* Padded or not. The last character may have unused bits, whatever they are. */
static int read_body(Text *text, Chunk *chunk)
{
    const char *from;
    size_t length;
    if (read_string(text, &from, &length) < 0)
        return -1;
    size_t padding = 0;
    while (padding < 2 && padding < length && from[length - 1 - padding] == '=')
        padding++;
    length -= padding;
    if (padding && (length + padding) % 4 != 0)
        return -1;
    if (length != 11 && length != 22 && length != 32 && length != 43)
        return -1;
    uint32_t bits = 0, held = 0;
    chunk->width = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char digit = digits[(unsigned char)from[i]];
        if (digit > 63)
            return -1;
        bits = bits << 6 | digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            chunk->body[chunk->width++] = (unsigned char)(bits >> held);
        }
    }
    return 0;
}

static int is_named(const char *name, size_t length, const char *expected)
{
    return length == strlen(expected) && memcmp(name, expected, length) == 0;
}

/* One of the three members; `seen` has a bit for each. */
static int read_member(Text *text, Chunk *chunk, unsigned *seen)
{
    const char *name;
    size_t length;
    unsigned bit;
    int status;
    if (read_string(text, &name, &length) < 0 || read_mark(text, ':') < 0)
        return -1;
    if (is_named(name, length, "simprint")) {
        bit = 1;
        status = read_body(text, chunk);
    } else if (is_named(name, length, "offset")) {
        bit = 2;
        status = read_uint32(text, &chunk->offset);
    } else if (is_named(name, length, "size")) {
        bit = 4;
        status = read_uint32(text, &chunk->size);
    } else
        return -1;
    if (*seen & bit)
        return -1;
    *seen |= bit;
    return status;
}

static int read_chunk(Text *text, Chunk *chunk)
{
    unsigned seen = 0;
    if (read_mark(text, '{') < 0)
        return -1;
    do
        if (read_member(text, chunk, &seen) < 0)
            return -1;
    while (read_mark(text, ',') == 0);
    return seen == 7 ? read_mark(text, '}') : -1;
}

/* ---- packing ---- */

static unsigned char *put_uint32(unsigned char *to, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *to++ = (unsigned char)(value >> shift);
    return to;
}

static int append(Packed *packed, const Chunk *chunk)
{
    const size_t stride = chunk->width + PLACE_BYTES;
    if (packed->capacity - packed->length < stride) {
        size_t capacity = packed->capacity ? 2 * packed->capacity : 64 * stride;
        unsigned char *bytes = realloc(packed->bytes, capacity);
        if (bytes == NULL)
            return -1;
        packed->bytes = bytes;
        packed->capacity = capacity;
    }
    unsigned char *to = packed->bytes + packed->length;
    memcpy(to, chunk->body, chunk->width);
    put_uint32(put_uint32(to + chunk->width, chunk->offset), chunk->size);
    packed->length += stride;
    return 0;
}

/* All chunks of one type, which have one width. */
static int read_chunks(Text *text, Packed *packed, size_t *width)
{
    Chunk chunk;
    *width = 0;
    packed->length = 0;
    if (read_mark(text, '[') < 0)
        return -1;
    do {
        if (read_chunk(text, &chunk) < 0 || (*width && chunk.width != *width))
            return -1;
        *width = chunk.width;
        if (append(packed, &chunk) < 0)
            return -1;
    } while (read_mark(text, ',') == 0);
    return read_mark(text, ']');
}

/* One type. 1: not plain; -1: with an exception. */
static int read_type(Text *text, Packed *packed, PyObject *types)
{
    const char *start;
    char name[TYPE_NAME_MAX + 1];
    size_t length, width;
    if (read_string(text, &start, &length) < 0 || length > TYPE_NAME_MAX || read_mark(text, ':') < 0)
        return 1;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)start[i] > 127)
            return 1;
    memcpy(name, start, length);
    name[length] = 0;
    if (read_chunks(text, packed, &width) < 0)
        return 1;
    PyObject *key = PyUnicode_FromStringAndSize(name, (Py_ssize_t)length);
    PyObject *value = Py_BuildValue("ny#", (Py_ssize_t)width, packed->bytes, (Py_ssize_t)packed->length);
    int status = -1;
    if (key != NULL && value != NULL) {
        int known = PyDict_Contains(types, key);
        status = known != 0 ? known : PyDict_SetItem(types, key, value);
    }
    Py_XDECREF(key);
    Py_XDECREF(value);
    return status;
}

static int read_types(Text *text, Packed *packed, PyObject *types)
{
    int status;
    if (read_mark(text, '{') < 0)
        return 1;
    if (read_mark(text, '}') < 0) {
        do
            if ((status = read_type(text, packed, types)) != 0)
                return status;
        while (read_mark(text, ',') == 0);
        if (read_mark(text, '}') < 0)
            return 1;
    }
    return text->at == text->end ? 0 : 1;
}

static PyObject *pack(PyObject *Py_UNUSED(module), PyObject *json)
{
    Py_buffer view;
    if (PyObject_GetBuffer(json, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Text text = {view.buf, (const char *)view.buf + view.len};
    Packed packed = {NULL, 0, 0};
    PyObject *types = PyDict_New();
    int status = types == NULL ? -1 : read_types(&text, &packed, types);
    free(packed.bytes);
    PyBuffer_Release(&view);
    if (status == 0)
        return types;
    Py_XDECREF(types);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"pack", pack, METH_O, "pack(json) -> None | dict of type name -> (width, packed)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_chunks",
    .m_doc = "Simprints of an asset from JSON to packed bytes.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__chunks(void)
{
    fill_digits();
    return PyModuleDef_Init(&definition);
}
