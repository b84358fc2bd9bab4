/* Two SHA-256 digests at once in one thread: what lanes.py does with hashlib, at nearly twice the rate (ADR-0020).

   One digest waits for itself: each of its 32 pairs of rounds needs the one before, and the processor could begin
   another in every second cycle. So two messages are taken together, block by block. For x86 processors with SHA
   instructions; anywhere else the import fails and hashlib is used. Compressing alone is done here with instructions of
   the processor (FIPS 180-4, 6.2; Intel, "SHA Extensions", 2013). Stable ABI: one binary serves Python 3.11 and later. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 64
#define DIGEST 32
#define WITH_SHA __attribute__((target("sha,sse4.1")))

static const uint32_t ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

/* What a lane keeps between two calls. */
typedef struct {
    uint32_t hash[8];
    uint64_t count;     /* bytes of the message so far */
    uint8_t rest[BLOCK]; /* those of them that fill no block yet */
} State;

/* A lane in a call: its data, where messages end in it, and the whole blocks that are to be taken next. */
typedef struct {
    State state;
    const uint8_t *data;
    size_t position;
    const size_t *ends;
    size_t ends_left, data_end;
    const uint8_t *run;
    size_t run_blocks;
    uint8_t padding[2 * BLOCK];
    int is_ending;
    uint8_t *digests;
} Lane;

static void store_big(uint8_t *place, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        place[i] = (uint8_t)value;
}

static void begin(State *state)
{
    memcpy(state->hash, START, sizeof START);
    state->count = 0;
}

/* The two halves of a state as the instructions want them: ABEF and CDGH. */
WITH_SHA static inline void load(const uint32_t *hash, __m128i *abef, __m128i *cdgh)
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)hash), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(hash + 4)), 0x1B);
    *abef = _mm_alignr_epi8(low, high, 8);
    *cdgh = _mm_blend_epi16(high, low, 0xF0);
}

WITH_SHA static inline void store(uint32_t *hash, __m128i abef, __m128i cdgh)
{
    __m128i low = _mm_shuffle_epi32(abef, 0x1B);
    __m128i high = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)hash, _mm_blend_epi16(low, high, 0xF0));
    _mm_storeu_si128((__m128i *)(hash + 4), _mm_alignr_epi8(high, low, 8));
}

#define READ(run, i) _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)((run) + 16 * (i))), big_endian)

/* Four rounds of one lane, and the four words of its schedule that take the place of those just used. */
#define FOUR(abef, cdgh, w0, w1, w2, w3, constants, is_last)                                      \
    do {                                                                                          \
        __m128i sum = _mm_add_epi32(w0, constants);                                               \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);                                            \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));                   \
        if (!(is_last))                                                                           \
            w0 = _mm_sha256msg2_epu32(                                                            \
                _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4)), w3);     \
    } while (0)

#define CONSTANTS(at) _mm_loadu_si128((const __m128i *)(ROUNDS + (at)))

/* Four rounds of the first lane, and of both. */
#define ONE(i, j, k, l, at, is_last) FOUR(abef, cdgh, w[i], w[j], w[k], w[l], CONSTANTS(at), is_last)
#define TWO(i, j, k, l, at, is_last)   \
    ONE(i, j, k, l, at, is_last);      \
    FOUR(abef_2, cdgh_2, v[i], v[j], v[k], v[l], CONSTANTS(at), is_last)

/* Sixteen rounds, and all of a block; `step` does four rounds of every lane. */
#define SIXTEEN(step, at, is_last)      \
    step(0, 1, 2, 3, at, is_last);      \
    step(1, 2, 3, 0, at + 4, is_last);  \
    step(2, 3, 0, 1, at + 8, is_last);  \
    step(3, 0, 1, 2, at + 12, is_last)

#define BLOCK_OF(step)     \
    SIXTEEN(step, 0, 0);   \
    SIXTEEN(step, 16, 0);  \
    SIXTEEN(step, 32, 0);  \
    SIXTEEN(step, 48, 1)

WITH_SHA static void take_one(uint32_t *hash, const uint8_t *run, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abef, cdgh, w[4];
    load(hash, &abef, &cdgh);
    for (; blocks > 0; blocks--, run += BLOCK) {
        __m128i old_abef = abef, old_cdgh = cdgh;
        for (int i = 0; i < 4; i++)
            w[i] = READ(run, i);
        BLOCK_OF(ONE);
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
    }
    store(hash, abef, cdgh);
}

WITH_SHA static void take_two(uint32_t *hash, const uint8_t *run, uint32_t *hash_2, const uint8_t *run_2, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abef, cdgh, abef_2, cdgh_2, w[4], v[4];
    load(hash, &abef, &cdgh);
    load(hash_2, &abef_2, &cdgh_2);
    for (; blocks > 0; blocks--, run += BLOCK, run_2 += BLOCK) {
        __m128i old_abef = abef, old_cdgh = cdgh, old_abef_2 = abef_2, old_cdgh_2 = cdgh_2;
        for (int i = 0; i < 4; i++) {
            w[i] = READ(run, i);
            v[i] = READ(run_2, i);
        }
        BLOCK_OF(TWO);
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
        abef_2 = _mm_add_epi32(abef_2, old_abef_2);
        cdgh_2 = _mm_add_epi32(cdgh_2, old_cdgh_2);
    }
    store(hash, abef, cdgh);
    store(hash_2, abef_2, cdgh_2);
}

/* End a message: a one bit, zeros, and its length in bits. */
static void pad(Lane *lane)
{
    size_t used = lane->state.count % BLOCK;
    size_t length = used < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    memcpy(lane->padding, lane->state.rest, used);
    memset(lane->padding + used, 0, length - used);
    lane->padding[used] = 0x80;
    store_big(lane->padding + length - 8, lane->state.count * 8, 8);
    lane->run = lane->padding;
    lane->run_blocks = length / BLOCK;
    lane->is_ending = 1;
}

static void finish(Lane *lane)
{
    for (int i = 0; i < 8; i++, lane->digests += 4)
        store_big(lane->digests, lane->state.hash[i], 4);
    begin(&lane->state);
    lane->is_ending = 0;
}

/* Copy what fills no block by itself to where it waits for more; a block that is full by it is the next run. */
static void keep_rest(Lane *lane, size_t left)
{
    size_t used = lane->state.count % BLOCK;
    size_t taken = left < BLOCK - used ? left : BLOCK - used;
    memcpy(lane->state.rest + used, lane->data + lane->position, taken);
    lane->position += taken;
    lane->state.count += taken;
    lane->run = lane->state.rest;
    lane->run_blocks = used + taken == BLOCK;
}

/* Find the next whole blocks of a lane; none is left where it ends without any. */
static void find_run(Lane *lane)
{
    while (lane->run_blocks == 0) {
        size_t end = lane->ends_left ? *lane->ends : lane->data_end;
        size_t left = end - lane->position;
        if (lane->is_ending) {
            finish(lane);
        } else if (left >= BLOCK && lane->state.count % BLOCK == 0) {
            lane->run = lane->data + lane->position;
            lane->run_blocks = left / BLOCK;
            lane->position += lane->run_blocks * BLOCK;
            lane->state.count += lane->run_blocks * BLOCK;
        } else if (left > 0) {
            keep_rest(lane, left);
        } else if (lane->ends_left) {
            lane->ends++, lane->ends_left--;
            pad(lane);
        } else {
            return;
        }
    }
}

static void take(Lane *lane, size_t blocks)
{
    lane->run += blocks * BLOCK;
    lane->run_blocks -= blocks;
}

static void advance_both(Lane *first, Lane *second)
{
    for (;;) {
        find_run(first);
        find_run(second);
        size_t a = first->run_blocks, b = second->run_blocks;
        if (a && b) {
            size_t blocks = a < b ? a : b;
            take_two(first->state.hash, first->run, second->state.hash, second->run, blocks);
            take(first, blocks);
            take(second, blocks);
        } else if (a || b) {
            Lane *lane = a ? first : second;
            take_one(lane->state.hash, lane->run, lane->run_blocks);
            take(lane, lane->run_blocks);
        } else {
            return;
        }
    }
}

/* The arguments of one lane, and the memory of its ends and its digests. */
typedef struct {
    Py_buffer state, data;
    size_t *ends;
    PyObject *digests;
    Lane lane;
} Call;

static int read_ends(Call *call, PyObject *ends)
{
    Py_ssize_t count = PyTuple_Size(ends);
    size_t last = 0;
    if (!(call->ends = PyMem_Calloc((size_t)count + 1, sizeof *call->ends))) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        size_t end = PyLong_AsSize_t(PyTuple_GetItem(ends, i));
        if (PyErr_Occurred())
            return -1;
        if (end < last || end > (size_t)call->data.len) {
            PyErr_SetString(PyExc_ValueError, "ends must rise within the data");
            return -1;
        }
        call->ends[i] = last = end;
    }
    call->digests = PyBytes_FromStringAndSize(NULL, count * DIGEST);
    return call->digests ? 0 : -1;
}

static int open_call(Call *call, PyObject *ends)
{
    if (call->state.len != sizeof(State)) {
        PyErr_SetString(PyExc_ValueError, "a state must come from start()");
        return -1;
    }
    if (read_ends(call, ends) < 0)
        return -1;
    Lane *lane = &call->lane;
    memcpy(&lane->state, call->state.buf, sizeof(State));
    lane->data = call->data.buf;
    lane->data_end = (size_t)call->data.len;
    lane->ends = call->ends;
    lane->ends_left = (size_t)PyTuple_Size(ends);
    lane->digests = (uint8_t *)PyBytes_AsString(call->digests);
    return 0;
}

static void close_call(Call *call)
{
    if (call->state.obj)
        PyBuffer_Release(&call->state);
    if (call->data.obj)
        PyBuffer_Release(&call->data);
    PyMem_Free(call->ends);
    Py_XDECREF(call->digests);
}

static PyObject *advance(PyObject *module, PyObject *args)
{
    Call first = {0}, second = {0};
    PyObject *ends, *ends_2, *result = NULL;
    (void)module;
    if (PyArg_ParseTuple(args, "w*y*O!w*y*O!:advance", &first.state, &first.data, &PyTuple_Type, &ends, &second.state,
                         &second.data, &PyTuple_Type, &ends_2) &&
        open_call(&first, ends) == 0 && open_call(&second, ends_2) == 0) {
        Py_BEGIN_ALLOW_THREADS
        advance_both(&first.lane, &second.lane);
        Py_END_ALLOW_THREADS
        memcpy(first.state.buf, &first.lane.state, sizeof(State));
        memcpy(second.state.buf, &second.lane.state, sizeof(State));
        result = PyTuple_Pack(2, first.digests, second.digests);
    }
    close_call(&first);
    close_call(&second);
    return result;
}

static PyObject *start(PyObject *module, PyObject *none)
{
    State state = {0};
    (void)module, (void)none;
    begin(&state);
    return PyByteArray_FromStringAndSize((const char *)&state, sizeof state);
}

static int has_instructions(void)
{
    unsigned int a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

static PyMethodDef METHODS[] = {
    {"start", start, METH_NOARGS, "start()\n--\n\nReturn the state of a lane in which no message has begun."},
    {"advance", advance, METH_VARARGS,
     "advance(state, data, ends, state_2, data_2, ends_2)\n--\n\n"
     "Take data into two lanes; return the digests, one after another, of the messages that end in each."},
    {NULL, NULL, 0, NULL},
};

static int check(PyObject *module)
{
    (void)module;
    if (has_instructions())
        return 0;
    PyErr_SetString(PyExc_ImportError, "this processor has no instructions for SHA-256");
    return -1;
}

#else

static PyMethodDef METHODS[] = {{NULL, NULL, 0, NULL}};

static int check(PyObject *module)
{
    (void)module;
    PyErr_SetString(PyExc_ImportError, "built for a processor without known instructions for SHA-256");
    return -1;
}

#endif

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, (void *)check}, {0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_sha256", "Two SHA-256 digests at once.", 0, METHODS, SLOTS, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sha256(void) { return PyModuleDef_Init(&MODULE); }
