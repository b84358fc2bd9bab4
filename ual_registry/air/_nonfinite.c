/* Whether a buffer holds a NaN or an infinity: what scan.py does in pure Python, at the speed of memory (ADR-0010).

   A number is not finite exactly when all bits of its exponent are set (IEEE 754). Masks are spelled as the bytes that
   are stored, so that the answer is right on machines of either byte order; loads go through memcpy, so that a buffer
   may begin anywhere. Built against the stable ABI: one binary serves Python 3.11 and every later version. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* The compiler makes one version for every processor and one for AVX2; the right one is chosen when this is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

#define BLOCK 4096 /* numbers between two chances to stop early */

/* Define a function that looks through `count` numbers of one width for one whose bits of `mask` are all set. */
#define DEFINE_SEARCH(name, type)                                                       \
    VECTORISED static int name(const char *data, Py_ssize_t count, const char *mask)    \
    {                                                                                   \
        type wanted;                                                                    \
        memcpy(&wanted, mask, sizeof wanted);                                           \
        for (Py_ssize_t start = 0; start < count; start += BLOCK) {                     \
            Py_ssize_t end = count - start < BLOCK ? count : start + BLOCK;             \
            type found = 0;                                                             \
            for (Py_ssize_t i = start; i < end; i++) {                                  \
                type number;                                                            \
                memcpy(&number, data + i * (Py_ssize_t)sizeof number, sizeof number);   \
                found |= (type)((number & wanted) == wanted);                           \
            }                                                                           \
            if (found)                                                                  \
                return 1;                                                               \
        }                                                                               \
        return 0;                                                                       \
    }

DEFINE_SEARCH(search_16, uint16_t)
DEFINE_SEARCH(search_32, uint32_t)
DEFINE_SEARCH(search_64, uint64_t)

static const struct {
    const char *dtype;
    Py_ssize_t width;
    const char *mask;
    int (*search)(const char *, Py_ssize_t, const char *);
} FORMATS[] = {
    {"F16", 2, "\x00\x7c", search_16},
    {"BF16", 2, "\x80\x7f", search_16},
    {"F32", 4, "\x00\x00\x80\x7f", search_32},
    {"F64", 8, "\x00\x00\x00\x00\x00\x00\xf0\x7f", search_64},
};

static PyObject *is_finite(PyObject *module, PyObject *args)
{
    const char *dtype;
    Py_buffer data;
    (void)module;
    if (!PyArg_ParseTuple(args, "sy*:is_finite", &dtype, &data))
        return NULL;
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        if (strcmp(dtype, FORMATS[i].dtype) == 0) {
            int found;
            Py_BEGIN_ALLOW_THREADS
            found = FORMATS[i].search(data.buf, data.len / FORMATS[i].width, FORMATS[i].mask);
            Py_END_ALLOW_THREADS
            PyBuffer_Release(&data);
            return PyBool_FromLong(!found);
        }
    }
    PyBuffer_Release(&data);
    PyErr_SetString(PyExc_KeyError, dtype);
    return NULL;
}

static PyMethodDef METHODS[] = {
    {"is_finite", is_finite, METH_VARARGS, "is_finite(dtype, data)\n--\n\nTell whether no number in data is a NaN or an infinity."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_nonfinite", "Whether a buffer holds a NaN or an infinity.", 0, METHODS, SLOTS, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__nonfinite(void) { return PyModuleDef_Init(&MODULE); }
