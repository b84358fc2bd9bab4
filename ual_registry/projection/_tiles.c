/* Products of a tall, narrow matrix: what the callers of tiles.py do with torch, without a copy of the matrix in float64 (ADR-0024).

   A factor of an update has many features and a small rank. It is taken tile by tile: some features are turned into
   doubles that stay in the cache, and everything is multiplied and added up there. Numbers are float32 or float64 in
   the byte order of the machine; all that is computed is computed in float64. Stable ABI, as the other extensions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#ifdef __GNUC__

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* On x86 for processors with AVX2 and FMA; anywhere else with what every processor of the platform has. */
#if defined(__x86_64__)
#define VECTORISED __attribute__((target("avx2,fma")))
#define IS_USABLE (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define VECTORISED
#define IS_USABLE 1
#endif

#define TILE 64 /* features */
#define LANES 4 /* doubles that are taken at once */

typedef double Vector __attribute__((vector_size(32), aligned(8), may_alias));

/* Where a factor lies: its features are rows (axis 0) or columns (axis 1). */
typedef struct {
    char *data;
    int is_double, axis;
    size_t rank, width, padded; /* padded: the rank, rounded up to whole vectors */
} Factor;

static size_t whole(size_t count) { return (count + LANES - 1) / LANES * LANES; }

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

#define PACK(row, column, count_r, count_c, from, to)         \
    for (size_t row = 0; row < (count_r); row++)              \
        for (size_t column = 0; column < (count_c); column++) \
            (to) = (from)

/* Copy features from `start` into a tile: one row of `padded` doubles each, zeros behind the rank. */
#define DEFINE_PACK(name, type)                                                                         \
    VECTORISED static void name(const Factor *own, size_t start, size_t count, double *tile)            \
    {                                                                                                   \
        const type *data = (const type *)own->data;                                                     \
        if (own->axis == 0)                                                                             \
            PACK(c, i, count, own->rank, data[(start + c) * own->rank + i], tile[c * own->padded + i]); \
        else                                                                                            \
            PACK(i, c, own->rank, count, data[i * own->width + start + c], tile[c * own->padded + i]);  \
    }

/* Copy a tile back into features from `start`, rounded to the factor's type. */
#define DEFINE_UNPACK(name, type)                                                                             \
    VECTORISED static void name(const Factor *own, size_t start, size_t count, const double *tile)            \
    {                                                                                                         \
        type *data = (type *)own->data;                                                                       \
        if (own->axis == 0)                                                                                   \
            PACK(c, i, count, own->rank, (type)tile[c * own->padded + i], data[(start + c) * own->rank + i]); \
        else                                                                                                  \
            PACK(i, c, own->rank, count, (type)tile[c * own->padded + i], data[i * own->width + start + c]);  \
    }

DEFINE_PACK(pack_float, float)
DEFINE_PACK(pack_double, double)
DEFINE_UNPACK(unpack_float, float)
DEFINE_UNPACK(unpack_double, double)

static void pack(const Factor *own, size_t start, size_t count, double *tile)
{
    (own->is_double ? pack_double : pack_float)(own, start, count, tile);
}

static void unpack(const Factor *own, size_t start, size_t count, const double *tile)
{
    (own->is_double ? unpack_double : unpack_float)(own, start, count, tile);
}

/* Four accumulators by name, which stay in registers: those of four numbers times the same vector. */
#define FOUR(name) name##0 = {0}, name##1 = {0}, name##2 = {0}, name##3 = {0}
#define ADD_FOUR(name, a, step, vector)                                                                   \
    name##0 += (a)[0] * (vector), name##1 += (a)[step] * (vector), name##2 += (a)[2 * (step)] * (vector), \
        name##3 += (a)[3 * (step)] * (vector)
#define GIVE_FOUR(name, place, step, sign)                                       \
    *(Vector *)(place) sign name##0, *(Vector *)((place) + (step)) sign name##1, \
        *(Vector *)((place) + 2 * (step)) sign name##2, *(Vector *)((place) + 3 * (step)) sign name##3

/* Add the products of the columns of two tiles to `sums`, (padded x padded); above the diagonal alone where asked. */
VECTORISED static void add_products(const double *first, const double *second, size_t count, size_t padded,
                                    double *sums, int is_upper)
{
    for (size_t i = 0; i < padded; i += LANES) {
        size_t j = is_upper ? i : 0;
        for (; j + LANES < padded; j += 2 * LANES) {
            Vector FOUR(low), FOUR(high);
            const double *a = first + i, *b = second + j;
            for (size_t c = 0; c < count; c++, a += padded, b += padded) {
                ADD_FOUR(low, a, 1, *(const Vector *)b);
                ADD_FOUR(high, a, 1, *(const Vector *)(b + LANES));
            }
            GIVE_FOUR(low, sums + i * padded + j, padded, +=);
            GIVE_FOUR(high, sums + i * padded + j + LANES, padded, +=);
        }
        if (j < padded) {
            Vector FOUR(low);
            const double *a = first + i, *b = second + j;
            for (size_t c = 0; c < count; c++, a += padded, b += padded)
                ADD_FOUR(low, a, 1, *(const Vector *)b);
            GIVE_FOUR(low, sums + i * padded + j, padded, +=);
        }
    }
}

/* Multiply a tile by a small matrix, (padded x columns), into another tile of rows of `columns` doubles. */
VECTORISED static void multiply(const double *tile, size_t count, size_t padded, const double *matrix, size_t columns,
                                double *into)
{
    for (size_t c = 0; c < count; c += LANES) {
        size_t j = 0;
        for (; j + LANES < columns; j += 2 * LANES) {
            Vector FOUR(low), FOUR(high);
            const double *a = tile + c * padded, *b = matrix + j;
            for (size_t i = 0; i < padded; i++, a++, b += columns) {
                ADD_FOUR(low, a, padded, *(const Vector *)b);
                ADD_FOUR(high, a, padded, *(const Vector *)(b + LANES));
            }
            GIVE_FOUR(low, into + c * columns + j, columns, =);
            GIVE_FOUR(high, into + c * columns + j + LANES, columns, =);
        }
        if (j < columns) {
            Vector FOUR(low);
            const double *a = tile + c * padded, *b = matrix + j;
            for (size_t i = 0; i < padded; i++, a++, b += columns)
                ADD_FOUR(low, a, padded, *(const Vector *)b);
            GIVE_FOUR(low, into + c * columns + j, columns, =);
        }
    }
}

/* Write sums without what was rounded up, and below the diagonal too. */
static void give(const double *sums, size_t rank, size_t padded, int is_upper, double *result)
{
    for (size_t i = 0; i < rank; i++)
        for (size_t j = 0; j < rank; j++)
            result[i * rank + j] = is_upper && j < i ? sums[j * padded + i] : sums[i * padded + j];
}

static void take_grams(const Factor *own, size_t head, double *tile, double *sums, double *of_head, double *of_whole)
{
    for (size_t start = 0, end; start < own->width; start = end) {
        end = smaller(start + TILE, start < head ? head : own->width);
        pack(own, start, end - start, tile);
        add_products(tile, tile, end - start, own->padded, sums, 1);
        if (end == head)
            give(sums, own->rank, own->padded, 1, of_head);
    }
    give(sums, own->rank, own->padded, 1, of_whole);
}

static void take_mixed(const Factor *own, size_t head, const double *matrix, const Factor *out, double *tile,
                       double *other)
{
    for (size_t start = 0; start < head; start += TILE) {
        size_t count = smaller(TILE, head - start);
        pack(own, start, count, tile);
        multiply(tile, count, own->padded, matrix, out->padded, other);
        unpack(out, start, count, other);
    }
    memset(other, 0, TILE * out->padded * sizeof *other);
    for (size_t start = head; start < out->width; start += TILE)
        unpack(out, start, smaller(TILE, out->width - start), other);
}

/* Sample features anew between those of a factor, linearly, with half-pixel centres; `room` holds what is read. */
VECTORISED static void sample(const Factor *own, size_t width, size_t start, size_t count, double *room, double *tile)
{
    double ratio = (double)own->width / (double)width, last = (double)(own->width - 1);
    size_t first = 0, padded = own->padded;
    for (size_t c = 0; c < count; c++) {
        double place = ((double)(start + c) + 0.5) * ratio - 0.5;
        place = place < 0 ? 0 : place > last ? last : place;
        size_t below = (size_t)place;
        if (c == 0) {
            size_t needed = (size_t)((double)count * ratio) + 3; /* those between the first and the last */
            first = below;
            pack(own, first, smaller(needed, own->width - first), room);
        }
        double part = place - (double)below;
        const double *low = room + (below - first) * padded, *high = below + 1 < own->width ? low + padded : low;
        for (size_t i = 0; i < padded; i++)
            tile[c * padded + i] = (1.0 - part) * low[i] + part * high[i];
    }
}

/* Sample a factor anew, there and back; `sums` gets the products own, new, back, and own with back. */
static void take_resampled(const Factor *own, const Factor *out, double *room, double *tile, double *other, double *sums,
                           double *result)
{
    size_t padded = own->padded, square = padded * padded, rank = own->rank;
    for (size_t start = 0; start < out->width; start += TILE) {
        size_t count = smaller(TILE, out->width - start);
        sample(own, out->width, start, count, room, tile);
        unpack(out, start, count, tile);
        add_products(tile, tile, count, padded, sums + square, 1);
    }
    for (size_t start = 0; start < own->width; start += TILE) {
        size_t count = smaller(TILE, own->width - start);
        sample(out, own->width, start, count, room, other);
        pack(own, start, count, tile);
        add_products(tile, tile, count, padded, sums, 1);
        add_products(other, other, count, padded, sums + 2 * square, 1);
        add_products(tile, other, count, padded, sums + 3 * square, 0);
    }
    for (size_t i = 0; i < 4; i++)
        give(sums + i * square, rank, padded, i < 3, result + i * rank * rank);
}

/* Zeroed memory for doubles. */
static double *doubles(size_t count) { return calloc(count, sizeof(double)); }

/* The arguments of a call: buffers, and what lies in them. */
typedef struct {
    Py_buffer data, out, matrix;
    Py_ssize_t rank, width, head, columns, out_width;
    Factor own, made;
} Call;

/* Say that a buffer has the size of its numbers. */
static int fills(const Py_buffer *buffer, int is_double, size_t rows, size_t columns)
{
    size_t item = is_double ? sizeof(double) : sizeof(float);
    if (rows < (size_t)PY_SSIZE_T_MAX / 64 / columns && (size_t)buffer->len == rows * columns * item)
        return 1;
    PyErr_SetString(PyExc_ValueError, "a buffer does not fill its shape");
    return 0;
}

static int place_factor(Factor *own, const Py_buffer *buffer, Py_ssize_t rank, Py_ssize_t width)
{
    if (rank < 1 || width < 1) {
        PyErr_SetString(PyExc_ValueError, "a factor has a rank and features");
        return 0;
    }
    own->data = buffer->buf;
    own->rank = (size_t)rank, own->width = (size_t)width, own->padded = whole((size_t)rank);
    return fills(buffer, own->is_double, own->rank, own->width);
}

static int has_head(const Call *call, Py_ssize_t most)
{
    if (call->head >= 1 && call->head <= call->width && call->head <= most)
        return 1;
    PyErr_SetString(PyExc_ValueError, "the head must be a part of the factor");
    return 0;
}

static PyObject *close_call(Call *call, int is_done)
{
    Py_buffer *held[] = {&call->data, &call->out, &call->matrix};
    for (int i = 0; i < 3; i++)
        if (held[i]->obj)
            PyBuffer_Release(held[i]);
    return is_done ? Py_NewRef(Py_None) : PyErr_Occurred() ? NULL : PyErr_NoMemory();
}

static PyObject *grams(PyObject *module, PyObject *args)
{
    Call call = {0};
    Factor *own = &call.own;
    int is_done = 0;
    (void)module;
    if (PyArg_ParseTuple(args, "y*ppnnnw*:grams", &call.data, &own->is_double, &own->axis, &call.rank, &call.width,
                         &call.head, &call.out) &&
        place_factor(own, &call.data, call.rank, call.width) && has_head(&call, call.width) &&
        fills(&call.out, 1, 2 * own->rank, own->rank)) {
        double *tile = doubles(TILE * own->padded), *sums = doubles(own->padded * own->padded);
        if ((is_done = tile && sums)) {
            double *result = call.out.buf;
            Py_BEGIN_ALLOW_THREADS
            take_grams(own, (size_t)call.head, tile, sums, result, result + own->rank * own->rank);
            Py_END_ALLOW_THREADS
        }
        free(tile), free(sums);
    }
    return close_call(&call, is_done);
}

static PyObject *mixed(PyObject *module, PyObject *args)
{
    Call call = {0};
    Factor *own = &call.own, *made = &call.made;
    int is_done = 0;
    (void)module;
    if (PyArg_ParseTuple(args, "y*ppnnny*nw*pn:mixed", &call.data, &own->is_double, &own->axis, &call.rank, &call.width,
                         &call.head, &call.matrix, &call.columns, &call.out, &made->is_double, &call.out_width) &&
        place_factor(own, &call.data, call.rank, call.width) &&
        place_factor(made, &call.out, call.columns, call.out_width) && has_head(&call, call.out_width) &&
        fills(&call.matrix, 1, own->rank, made->rank)) {
        double *tile = doubles(TILE * own->padded), *other = doubles(TILE * made->padded);
        double *matrix = doubles(own->padded * made->padded);
        if ((is_done = tile && other && matrix)) {
            made->axis = own->axis;
            for (size_t i = 0; i < own->rank; i++)
                memcpy(matrix + i * made->padded, (double *)call.matrix.buf + i * made->rank, made->rank * sizeof *matrix);
            Py_BEGIN_ALLOW_THREADS
            take_mixed(own, (size_t)call.head, matrix, made, tile, other);
            Py_END_ALLOW_THREADS
        }
        free(tile), free(other), free(matrix);
    }
    return close_call(&call, is_done);
}

static PyObject *resampled(PyObject *module, PyObject *args)
{
    Call call = {0};
    Factor *own = &call.own, *made = &call.made;
    int is_done = 0;
    (void)module;
    made->is_double = 1;
    if (PyArg_ParseTuple(args, "y*ppnnw*nw*:resampled", &call.data, &own->is_double, &own->axis, &call.rank, &call.width,
                         &call.out, &call.out_width, &call.matrix) &&
        place_factor(own, &call.data, call.rank, call.width) &&
        place_factor(made, &call.out, call.rank, call.out_width) &&
        fills(&call.matrix, 1, 4 * own->rank, own->rank)) {
        size_t wide = own->width > made->width ? own->width / made->width : made->width / own->width;
        double *tile = doubles(TILE * own->padded), *other = doubles(TILE * own->padded);
        double *room = doubles((TILE * (wide + 1) + 3) * own->padded), *sums = doubles(4 * own->padded * own->padded);
        if ((is_done = tile && other && room && sums)) {
            made->axis = own->axis;
            Py_BEGIN_ALLOW_THREADS
            take_resampled(own, made, room, tile, other, sums, call.matrix.buf);
            Py_END_ALLOW_THREADS
        }
        free(tile), free(other), free(room), free(sums);
    }
    return close_call(&call, is_done);
}

static PyMethodDef METHODS[] = {
    {"grams", grams, METH_VARARGS, "grams(data, is_double, axis, rank, width, head, out)\n--\n\n"
     "Write the Gram matrices of the first features and of all."},
    {"mixed", mixed, METH_VARARGS,
     "mixed(data, is_double, axis, rank, width, head, matrix, columns, out, out_is_double, out_width)\n--\n\n"
     "Write the first features times a matrix, and zeros behind them."},
    {"resampled", resampled, METH_VARARGS, "resampled(data, is_double, axis, rank, width, out, out_width, sums)\n--\n\n"
     "Write features sampled anew, and the products own, new, back, and own with back."},
    {NULL, NULL, 0, NULL},
};

static int check(PyObject *module)
{
    (void)module;
    if (IS_USABLE)
        return 0;
    PyErr_SetString(PyExc_ImportError, "this processor has no AVX2 and FMA");
    return -1;
}

#else

static PyMethodDef METHODS[] = {{NULL, NULL, 0, NULL}};

static int check(PyObject *module)
{
    (void)module;
    PyErr_SetString(PyExc_ImportError, "built by a compiler without vectors");
    return -1;
}

#endif

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, (void *)check}, {0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_tiles", "Products of tall, narrow matrices.", 0, METHODS, SLOTS, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__tiles(void) { return PyModuleDef_Init(&MODULE); }
