/* The compiled scan kernel of the exact tier: Hamming distances between queries and columns of 64-bit words.

   range_scan(columns, count, queries, radii) -> None | bytes: n queries (int64), n rows (int64), n distances (uint16)
   body_scan([(columns, count), ...], queries, radii, threads) -> None | bytes: n bodies (words, big-endian), n queries (int64), n distances
   top_scan(columns, count, query, limit) -> None | bytes: n rows (int64), n distances (uint16)
   variants() -> names of what this processor can run, best first; variant() -> the active one; select(name)

   `columns` has the shape (words, capacity): word i of every row is columns[i]. None stands for no hits.
   Work goes in groups of 64 rows. A variant answers one question as fast as it can: which is the next group with a hit?
   Nearly all groups have none, so distances are only written down for the groups that do.
   A scan for bodies is cut into tasks, which the calling thread and helpers take one after the other: a helper without a processor holds up no
   more than the task that it took. */

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#include <Python.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PREFETCH_BYTES 4096
#define LINE_WORDS 8          /* a cache line */
#define FETCHERS_MIN 4        /* fewer queries fetch for themselves: parts of a block would be so large that fetching holds up the rest */
#define GROUP 64              /* rows; one bit each in Group.mask */
#define WORDS_MAX 4           /* 256 bits: the longest ISCC body */
#define BLOCK_WORDS 2048      /* 16 KiB: what stays in L1 while every query looks at it */
#define SMALL_HITS 256        /* collected in place; more are collected elsewhere */
#define GIL_WORDS_MIN 16384   /* a shorter scan (about 2 µs) costs less than getting the GIL back from a busy thread */
#define TASK_WORDS 1000000    /* compared words, about 80 µs */
#define THREAD_WORDS 3000000  /* compared words that are worth waking a helper, which takes up to 50 µs */
#define HELPERS_MAX 63
#define STACK_BYTES 262144

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    uint64_t mask;
    uint16_t distances[GROUP];
} Group;

typedef struct {
    uint32_t query, row, distance;
} Hit;

typedef struct {
    Hit *items;
    size_t length, capacity;
    Hit small[SMALL_HITS];
} Hits;

typedef struct {
    const uint64_t *columns;
    size_t stride, count;
    int words;
    int ahead; /* the next rows are fetched while these are looked at */
} Scan;

/* The start of the first group of [start, end) with a hit, described in `group`; `end` when there is none. */
typedef size_t Find(const Scan *scan, size_t start, size_t end, const uint64_t *query, unsigned radius, Group *group);

typedef struct {
    const char *name;
    Find *find;
} Variant;

/* ---- variants ---- */

INLINE unsigned bit_count(uint64_t x, const int instruction)
{
    if (instruction)
        return (unsigned)__builtin_popcountll(x);
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    x += x >> 8;
    x += x >> 16;
    return (unsigned)((x + (x >> 32)) & 0x7f);
}

INLINE unsigned distance(const uint64_t *row, size_t stride, const uint64_t *query, const int words, const int instruction)
{
    unsigned sum = 0;
    for (int word = 0; word < words; word++)
        sum += bit_count(row[(size_t)word * stride] ^ query[word], instruction);
    return sum;
}

INLINE int measure(const uint64_t *rows, size_t count, size_t stride, const uint64_t *query, const int words, unsigned radius,
                   Group *group, const int instruction)
{
    for (size_t i = 0; i < count; i++)
        group->distances[i] = (uint16_t)distance(rows + i, stride, query, words, instruction);
    uint64_t mask = 0;
    for (size_t i = 0; i < count; i++)
        mask |= (uint64_t)(group->distances[i] <= radius) << i;
    group->mask = mask;
    return mask != 0;
}

INLINE int any_scalar(const uint64_t *rows, size_t stride, const uint64_t *query, const int words, unsigned radius, const int instruction)
{
    unsigned least = UINT32_MAX;
    for (size_t i = 0; i < GROUP; i++) {
        unsigned sum = distance(rows + i, stride, query, words, instruction);
        least = sum < least ? sum : least;
    }
    return least <= radius;
}

INLINE int any_joined_scalar(const uint64_t *rows, size_t stride, const uint64_t *query, unsigned radius, const int instruction)
{
    unsigned least = UINT32_MAX;
    for (size_t i = 0; i < GROUP; i++) {
        unsigned sum = bit_count((rows[i] ^ query[0]) | (rows[stride + i] ^ query[1]), instruction);
        least = sum < least ? sum : least;
    }
    return least <= radius;
}

/* A page ahead of what is read: the processor's own prefetching stops at the end of a page. What is not there is not fetched. */
INLINE void prefetch(const uint64_t *from)
{
    __builtin_prefetch((const void *)((uintptr_t)from + PREFETCH_BYTES));
}

/* How many words tell nearly always that a whole group is too far, so that the others need not be read; 0 for none. Of unrelated bodies
   half the bits differ: 32 in a word, with a standard deviation of 4 times the root of the number of words; three of these are left. */
INLINE int few_words(int words, unsigned radius)
{
    static const unsigned farthest[] = {0, 20, 47, 75};
    for (int few = 1; few < words; few++)
        if (radius <= farthest[few])
            return few;
    return 0;
}

/* Of two words, the bits that differ in either are at most those that differ at all: one count instead of two. Of unrelated bodies three
   quarters of 64 bits differ so, with a standard deviation of 3.5; three of these are left. */
#define JOINED_FARTHEST 37

/* The loop with a first look at two words joined. */
#define SKIP_JOINED_FAR(variant, instruction) \
    for (; end - start >= GROUP; start += GROUP) \
        if (any_joined_##variant(columns + start, stride, query, radius, ahead) && \
            any_##variant(columns + start, stride, query, words, radius, ahead)) { \
            measure(columns + start, GROUP, stride, query, words, radius, group, instruction); \
            return start; \
        }

/* The loop with a first look at `few` words; the last group of fewer rows is left to the code behind it. */
#define SKIP_FAR(variant, few, instruction) \
    for (; end - start >= GROUP; start += GROUP) \
        if (few < words && any_##variant(columns + start, stride, query, few, radius, ahead) && \
            any_##variant(columns + start, stride, query, words, radius, ahead)) { \
            measure(columns + start, GROUP, stride, query, words, radius, group, instruction); \
            return start; \
        } \
    break;

#define FIND_WORDS(variant, words, sign) \
    case (words) * (sign): \
        return find_words_##variant(scan, start, end, query, radius, group, words, (sign) > 0);

/* A template: one loop per number of words, so that the compiler unrolls it and keeps the query in registers;
   once with prefetching (`ahead`) and once without. */
#define DEFINE_FIND(variant, target, instruction) \
    target INLINE size_t find_words_##variant(const Scan *scan, size_t start, size_t end, const uint64_t *query, unsigned radius, \
                                              Group *group, const int words, const int ahead) \
    { \
        const uint64_t *columns = scan->columns; \
        const size_t stride = scan->stride; \
        if (words == 2 && radius <= JOINED_FARTHEST) \
            SKIP_JOINED_FAR(variant, instruction) \
        switch (few_words(words, radius)) { \
        case 1: \
            SKIP_FAR(variant, 1, instruction) \
        case 2: \
            SKIP_FAR(variant, 2, instruction) \
        case 3: \
            SKIP_FAR(variant, 3, instruction) \
        default: \
            break; \
        } \
        for (; end - start >= GROUP; start += GROUP) \
            if (any_##variant(columns + start, stride, query, words, radius, ahead)) { \
                measure(columns + start, GROUP, stride, query, words, radius, group, instruction); \
                return start; \
            } \
        if (start < end && measure(columns + start, end - start, stride, query, words, radius, group, instruction)) \
            return start; \
        return end; \
    } \
    target static size_t find_##variant(const Scan *scan, size_t start, size_t end, const uint64_t *query, unsigned radius, \
                                        Group *group) \
    { \
        switch (scan->ahead ? scan->words : -scan->words) { \
            FIND_WORDS(variant, 1, 1) \
            FIND_WORDS(variant, 2, 1) \
            FIND_WORDS(variant, 3, 1) \
            FIND_WORDS(variant, 4, 1) \
            FIND_WORDS(variant, 1, -1) \
            FIND_WORDS(variant, 2, -1) \
            FIND_WORDS(variant, 3, -1) \
        default: \
            return find_words_##variant(scan, start, end, query, radius, group, 4, 0); \
        } \
    }

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET_AVX512 __attribute__((target("avx512f,avx512vpopcntdq,popcnt")))
#define TARGET_AVX2 __attribute__((target("avx2,popcnt")))
#define TARGET_POPCNT __attribute__((target("popcnt")))
#define TARGET_GENERIC
#define GENERIC_INSTRUCTION 0

/* Sums stay below 2^32, so the cheaper 32-bit minimum is also the minimum of the 64-bit lanes. */
TARGET_AVX512 INLINE int any_avx512vpopcntdq(const uint64_t *rows, size_t stride, const uint64_t *query, const int words, unsigned radius,
                                             const int ahead)
{
    __m512i least = _mm512_set1_epi64(-1);
    for (size_t i = 0; i < GROUP; i += 8) {
        __m512i sum = _mm512_setzero_si512();
        for (int word = 0; word < words; word++) {
            if (ahead)
                prefetch(rows + (size_t)word * stride + i);
            __m512i bits = _mm512_loadu_si512(rows + (size_t)word * stride + i);
            bits = _mm512_xor_si512(bits, _mm512_set1_epi64((long long)query[word]));
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(bits));
        }
        least = _mm512_min_epu32(least, sum);
    }
    return _mm512_cmple_epu64_mask(least, _mm512_set1_epi64((long long)radius)) != 0;
}

TARGET_AVX512 INLINE int any_joined_avx512vpopcntdq(const uint64_t *rows, size_t stride, const uint64_t *query, unsigned radius,
                                                    const int ahead)
{
    const int or_xor = 0xf6; /* a | (b ^ c) */
    __m512i least = _mm512_set1_epi64(-1);
    for (size_t i = 0; i < GROUP; i += 8) {
        if (ahead) {
            prefetch(rows + i);
            prefetch(rows + stride + i);
        }
        __m512i first = _mm512_xor_si512(_mm512_loadu_si512(rows + i), _mm512_set1_epi64((long long)query[0]));
        __m512i second = _mm512_loadu_si512(rows + stride + i);
        __m512i bits = _mm512_ternarylogic_epi64(first, _mm512_set1_epi64((long long)query[1]), second, or_xor);
        least = _mm512_min_epu32(least, _mm512_popcnt_epi64(bits));
    }
    return _mm512_cmple_epu64_mask(least, _mm512_set1_epi64((long long)radius)) != 0;
}
DEFINE_FIND(avx512vpopcntdq, TARGET_AVX512, 1)

/* Each nibble is looked up; the bytes of at most four words add up to at most 32 before they are summed for the row. */
TARGET_AVX2 INLINE int any_avx2(const uint64_t *rows, size_t stride, const uint64_t *query, const int words, unsigned radius,
                                const int ahead)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i least = _mm256_set1_epi64x(-1);
    for (size_t i = 0; i < GROUP; i += 4) {
        __m256i sum = _mm256_setzero_si256();
        for (int word = 0; word < words; word++) {
            if (ahead)
                prefetch(rows + (size_t)word * stride + i);
            __m256i bits = _mm256_loadu_si256((const __m256i *)(rows + (size_t)word * stride + i));
            bits = _mm256_xor_si256(bits, _mm256_set1_epi64x((long long)query[word]));
            __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
            __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi64(bits, 4), nibble));
            sum = _mm256_add_epi8(sum, _mm256_add_epi8(low, high));
        }
        least = _mm256_min_epu32(least, _mm256_sad_epu8(sum, _mm256_setzero_si256()));
    }
    return _mm256_movemask_epi8(_mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)radius + 1), least)) != 0;
}

TARGET_AVX2 INLINE int any_joined_avx2(const uint64_t *rows, size_t stride, const uint64_t *query, unsigned radius,
                                       const int ahead)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i least = _mm256_set1_epi64x(-1);
    for (size_t i = 0; i < GROUP; i += 4) {
        if (ahead) {
            prefetch(rows + i);
            prefetch(rows + stride + i);
        }
        __m256i first = _mm256_loadu_si256((const __m256i *)(rows + i));
        __m256i second = _mm256_loadu_si256((const __m256i *)(rows + stride + i));
        first = _mm256_xor_si256(first, _mm256_set1_epi64x((long long)query[0]));
        second = _mm256_xor_si256(second, _mm256_set1_epi64x((long long)query[1]));
        __m256i bits = _mm256_or_si256(first, second);
        __m256i low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble));
        __m256i high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi64(bits, 4), nibble));
        least = _mm256_min_epu32(least, _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256()));
    }
    return _mm256_movemask_epi8(_mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)radius + 1), least)) != 0;
}
DEFINE_FIND(avx2, TARGET_AVX2, 1)

TARGET_POPCNT INLINE int any_popcnt(const uint64_t *rows, size_t stride, const uint64_t *query, const int words, unsigned radius,
                                    const int ahead)
{
    (void)ahead;
    return any_scalar(rows, stride, query, words, radius, 1);
}

TARGET_POPCNT INLINE int any_joined_popcnt(const uint64_t *rows, size_t stride, const uint64_t *query, unsigned radius,
                                           const int ahead)
{
    (void)ahead;
    return any_joined_scalar(rows, stride, query, radius, 1);
}
DEFINE_FIND(popcnt, TARGET_POPCNT, 1)

#else
#define TARGET_GENERIC
#define GENERIC_INSTRUCTION 1
#endif

INLINE int any_generic(const uint64_t *rows, size_t stride, const uint64_t *query, const int words, unsigned radius,
                       const int ahead)
{
    (void)ahead;
    return any_scalar(rows, stride, query, words, radius, GENERIC_INSTRUCTION);
}

INLINE int any_joined_generic(const uint64_t *rows, size_t stride, const uint64_t *query, unsigned radius,
                              const int ahead)
{
    (void)ahead;
    return any_joined_scalar(rows, stride, query, radius, GENERIC_INSTRUCTION);
}
DEFINE_FIND(generic, TARGET_GENERIC, GENERIC_INSTRUCTION)

static Variant variants[4]; /* filled once, at import */
static size_t variants_length;
static const Variant *active; /* changed by select(), under the GIL */

static void add_variant(const char *name, Find *find)
{
    variants[variants_length].name = name;
    variants[variants_length++].find = find;
}

static void detect_variants(void)
{
    variants_length = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq"))
        add_variant("avx512vpopcntdq", find_avx512vpopcntdq);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
        add_variant("avx2", find_avx2);
    if (__builtin_cpu_supports("popcnt"))
        add_variant("popcnt", find_popcnt);
#endif
    add_variant("generic", find_generic);
    active = &variants[0];
}

/* ---- collecting hits; nothing here touches a Python object ---- */

static void hits_open(Hits *hits)
{
    hits->items = hits->small;
    hits->length = 0;
    hits->capacity = SMALL_HITS;
}

static void hits_close(Hits *hits)
{
    if (hits->items != hits->small)
        free(hits->items);
}

static int hits_grow(Hits *hits)
{
    if (hits->capacity > SIZE_MAX / 2 / sizeof(Hit))
        return -1;
    size_t capacity = hits->capacity * 2;
    int in_place = hits->items == hits->small;
    Hit *items = realloc(in_place ? NULL : hits->items, capacity * sizeof(Hit));
    if (items == NULL)
        return -1;
    if (in_place)
        memcpy(items, hits->small, sizeof(hits->small));
    hits->items = items;
    hits->capacity = capacity;
    return 0;
}

static void hits_keep(Hits *hits, unsigned radius)
{
    size_t kept = 0;
    for (size_t i = 0; i < hits->length; i++)
        if (hits->items[i].distance <= radius)
            hits->items[kept++] = hits->items[i];
    hits->length = kept;
}

/* All hits of one query in [start, end). */
static int collect(Hits *hits, Find *find, const Scan *scan, size_t start, size_t end, const uint64_t *query, uint32_t number, unsigned radius)
{
    Group group;
    for (start = find(scan, start, end, query, radius, &group); start < end; start = find(scan, start, end, query, radius, &group)) {
        if (hits->capacity - hits->length < GROUP && hits_grow(hits) < 0)
            return -1;
        for (uint64_t mask = group.mask; mask; mask &= mask - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(mask);
            hits->items[hits->length++] = (Hit){number, (uint32_t)(start + bit), group.distances[bit]};
        }
        start = end - start > GROUP ? start + GROUP : end;
    }
    return 0;
}

/* Fetches one of `parts` parts of the rows of [start, end). */
static void fetch_part(const Scan *scan, size_t start, size_t end, size_t part, size_t parts)
{
    const size_t lines = (end - start) / LINE_WORDS;
    for (int word = 0; word < scan->words; word++)
        for (size_t line = lines * part / parts; line < lines * (part + 1) / parts; line++)
            __builtin_prefetch(scan->columns + (size_t)word * scan->stride + start + line * LINE_WORDS);
}

/* Blocks outside, queries inside: the columns come from memory once, however many queries there are, and while the queries look at one
   block, each has a part of the next one fetched. */
static int collect_all(Hits *hits, Find *find, const Scan *scan, size_t from, size_t to, const uint64_t *queries, const uint32_t *radii,
                       size_t length)
{
    const size_t block = length == 1 ? to - from : BLOCK_WORDS / (size_t)scan->words / GROUP * GROUP;
    for (size_t start = from; start < to; start += block) {
        size_t end = to - start > block ? start + block : to;
        size_t next = to - end > block ? end + block : to;
        for (size_t i = 0; i < length; i++) {
            if (!scan->ahead)
                fetch_part(scan, end, next, i, length);
            if (collect(hits, find, scan, start, end, queries + i * (size_t)scan->words, (uint32_t)i, radii[i]) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- tasks, shared by threads ---- */

typedef struct {
    const Scan *scan;
    size_t start, end;
    Hits hits;
    uint64_t *bodies; /* of the hits, big-endian */
} Task;

typedef struct Job {
    Find *find;
    const uint64_t *queries;
    const uint32_t *radii;
    size_t rows;
    Task *tasks;
    size_t length;
    atomic_size_t next;
    atomic_int failed;
    size_t seats, helping; /* helpers that are wanted, and those at work; both under the lock */
    struct Job *later;     /* in the queue of those with seats */
} Job;

static uint64_t big_endian(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

/* Here, without the GIL: a row of a mapped file may have to be read from the disk once more. */
static int copy_bodies(Task *task)
{
    const Scan *scan = task->scan;
    const size_t words = (size_t)scan->words;
    if (task->hits.length == 0)
        return 0;
    uint64_t *body = task->bodies = malloc(task->hits.length * words * 8);
    if (body == NULL)
        return -1;
    for (const Hit *hit = task->hits.items; hit < task->hits.items + task->hits.length; hit++)
        for (size_t word = 0; word < words; word++)
            *body++ = big_endian(scan->columns[word * scan->stride + hit->row]);
    return 0;
}

static void work(Job *job)
{
    for (size_t at = atomic_fetch_add(&job->next, 1); at < job->length; at = atomic_fetch_add(&job->next, 1)) {
        Task *task = &job->tasks[at];
        if (atomic_load(&job->failed))
            return;
        if (collect_all(&task->hits, job->find, task->scan, task->start, task->end, job->queries, job->radii, job->rows) < 0 ||
            copy_bodies(task) < 0)
            atomic_store(&job->failed, 1);
    }
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER, left = PTHREAD_COND_INITIALIZER;
static Job *queue;
static size_t helpers, idle;

static void leave_queue(const Job *job)
{
    for (Job **at = &queue; *at != NULL; at = &(*at)->later)
        if (*at == job) {
            *at = job->later;
            return;
        }
}

static void *help(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (queue == NULL) {
            idle++;
            pthread_cond_wait(&wanted, &lock);
            idle--;
        }
        Job *job = queue;
        job->helping++;
        if (--job->seats == 0)
            leave_queue(job);
        pthread_mutex_unlock(&lock);
        work(job);
        pthread_mutex_lock(&lock);
        if (--job->helping == 0)
            pthread_cond_broadcast(&left);
    }
    return NULL;
}

/* They stay until the process ends, and touch no Python object; signals are for the others. Fewer than asked for will do. */
static void hire(size_t enough)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (helpers >= enough || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (helpers < enough && pthread_create(&thread, &attributes, help, NULL) == 0)
        helpers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static int run_job(Job *job, size_t seats)
{
    if (seats > 0) {
        pthread_mutex_lock(&lock);
        hire(seats);
        job->seats = seats;
        job->later = queue;
        queue = job;
        for (size_t i = 0; i < seats && i < idle; i++)
            pthread_cond_signal(&wanted);
        pthread_mutex_unlock(&lock);
    }
    work(job);
    if (seats > 0) {
        pthread_mutex_lock(&lock);
        leave_queue(job);
        while (job->helping > 0)
            pthread_cond_wait(&left, &lock);
        pthread_mutex_unlock(&lock);
    }
    return atomic_load(&job->failed) ? -1 : 0;
}

/* Of a process that forks, the child has no helpers. */
static void forget_helpers(void)
{
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&wanted, NULL);
    pthread_cond_init(&left, NULL);
    queue = NULL;
    helpers = idle = 0;
}

/* The radius shrinks to the distance at which `limit` rows are already known; what is farther is dropped when space is short. */
static int collect_top(Hits *hits, Find *find, const Scan *scan, const uint64_t *query, size_t limit)
{
    size_t known[WORDS_MAX * 64 + 1] = {0}, within = 0;
    unsigned radius = (unsigned)scan->words * 64;
    Group group;
    for (size_t start = find(scan, 0, scan->count, query, radius, &group); start < scan->count;
         start = find(scan, start, scan->count, query, radius, &group)) {
        if (hits->capacity - hits->length < GROUP) {
            hits_keep(hits, radius);
            if (hits->capacity / 2 < hits->length + GROUP && hits_grow(hits) < 0)
                return -1;
        }
        for (uint64_t mask = group.mask; mask; mask &= mask - 1) {
            unsigned bit = (unsigned)__builtin_ctzll(mask), found = group.distances[bit];
            if (found > radius)
                continue;
            hits->items[hits->length++] = (Hit){0, (uint32_t)(start + bit), found};
            known[found]++;
            within++;
            while (within - known[radius] >= limit)
                within -= known[radius--];
        }
        start = scan->count - start > GROUP ? start + GROUP : scan->count;
    }
    hits_keep(hits, radius);
    return 0;
}

/* ---- arguments ---- */

static int is_uint64(const Py_buffer *view)
{
    return view->itemsize == 8 && view->format != NULL && (strcmp(view->format, "L") == 0 || strcmp(view->format, "Q") == 0);
}

static int open_array(PyObject *object, Py_buffer *view, int dimensions, int flags, const char *name)
{
    if (PyObject_GetBuffer(object, view, flags | PyBUF_FORMAT) < 0)
        return -1;
    if (view->ndim == dimensions && is_uint64(view) && (uintptr_t)view->buf % 8 == 0)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s must be an aligned array of uint64 dimensions=%d", name, dimensions);
    PyBuffer_Release(view);
    return -1;
}

/* Fills `scan` except for `words`; on success the caller releases `view`. */
static int open_columns(PyObject *columns, PyObject *count, Py_buffer *view, Scan *scan)
{
    Py_ssize_t rows = PyNumber_AsSsize_t(count, NULL);
    if (rows == -1 && PyErr_Occurred())
        return -1;
    if (open_array(columns, view, 2, PyBUF_STRIDES, "columns") < 0)
        return -1;
    if ((view->shape[1] > 1 && view->strides[1] != 8) || (view->shape[0] > 1 && (view->strides[0] < 0 || view->strides[0] % 8 != 0))) {
        PyErr_SetString(PyExc_ValueError, "the rows of columns do not follow one another");
        PyBuffer_Release(view);
        return -1;
    }
    if (rows < 0 || rows > view->shape[1] || (uint64_t)rows > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "count out of range count=%zd capacity=%zd", rows, view->shape[1]);
        PyBuffer_Release(view);
        return -1;
    }
    scan->columns = view->buf;
    scan->stride = (size_t)view->strides[0] / 8;
    scan->count = (size_t)rows;
    return 0;
}

/* A packed copy of `length` queries, to be freed by the caller. Queries may be strided: the first words of longer ones. */
static uint64_t *copy_queries(PyObject *object, int dimensions, Py_ssize_t words_max, int *words, size_t *length)
{
    Py_buffer view;
    uint64_t *copy = NULL;
    if (open_array(object, &view, dimensions, PyBUF_STRIDES, "queries") < 0)
        return NULL;
    Py_ssize_t width = view.shape[dimensions - 1], rows = dimensions == 2 ? view.shape[0] : 1;
    if (width < 1 || width > words_max || width > WORDS_MAX || (uint64_t)rows > UINT32_MAX)
        PyErr_Format(PyExc_ValueError, "queries do not fit columns query_words=%zd column_words=%zd", width, words_max);
    else if ((copy = malloc((size_t)(rows ? rows : 1) * (size_t)width * 8)) == NULL)
        PyErr_NoMemory();
    else {
        Py_ssize_t row_stride = dimensions == 2 ? view.strides[0] : 0, word_stride = view.strides[dimensions - 1];
        for (Py_ssize_t row = 0; row < rows; row++)
            for (Py_ssize_t word = 0; word < width; word++)
                memcpy(copy + row * width + word, (const char *)view.buf + row * row_stride + word * word_stride, 8);
        *words = (int)width;
        *length = (size_t)rows;
    }
    PyBuffer_Release(&view);
    return copy;
}

static int read_radius(PyObject *object, int words, uint32_t *radius)
{
    Py_ssize_t value = PyNumber_AsSsize_t(object, NULL);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0) {
        PyErr_Format(PyExc_ValueError, "radius is negative radius=%zd", value);
        return -1;
    }
    *radius = value > words * 64 ? (uint32_t)words * 64 : (uint32_t)value;
    return 0;
}

/* One radius for each query, to be freed by the caller; a single number stands for all. */
static uint32_t *copy_radii(PyObject *object, int words, size_t length)
{
    int single = PyLong_Check(object) || !PySequence_Check(object);
    Py_ssize_t given = single ? (Py_ssize_t)length : PySequence_Size(object);
    if (given < 0)
        return NULL;
    if ((size_t)given != length) {
        PyErr_Format(PyExc_ValueError, "one radius for each query is needed radii=%zd queries=%zu", given, length);
        return NULL;
    }
    uint32_t *radii = malloc((length + 1) * sizeof(uint32_t)); /* one more: a single radius is checked without queries too */
    if (radii == NULL)
        return (uint32_t *)PyErr_NoMemory();
    int status = single ? read_radius(object, words, &radii[0]) : 0;
    for (size_t i = 0; i < length && status == 0; i++) {
        if (single) {
            radii[i] = radii[0];
            continue;
        }
        PyObject *item = PySequence_GetItem(object, (Py_ssize_t)i);
        status = item == NULL ? -1 : read_radius(item, words, &radii[i]);
        Py_XDECREF(item);
    }
    if (status == 0)
        return radii;
    free(radii);
    return NULL;
}

static int check_arguments(Py_ssize_t given, Py_ssize_t taken, const char *name)
{
    if (given == taken)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments given=%zd", name, taken, given);
    return -1;
}

/* ---- results ---- */

/* First place of each key in the order by (key, place in hits), which is the order by (key, row). */
static size_t *places(const Hits *hits, size_t keys, int by_query)
{
    size_t *place = calloc(keys + 1, sizeof(size_t));
    if (place == NULL)
        return (size_t *)PyErr_NoMemory();
    for (size_t i = 0; i < hits->length; i++)
        place[(by_query ? hits->items[i].query : hits->items[i].distance) + 1]++;
    for (size_t key = 0; key < keys; key++)
        place[key + 1] += place[key];
    return place;
}

static PyObject *pack(const Hits *hits, size_t keys, int by_query)
{
    const size_t length = hits->length, item = by_query ? 18 : 10;
    if (length == 0)
        return Py_NewRef(Py_None);
    if (length > (size_t)PY_SSIZE_T_MAX / item)
        return PyErr_NoMemory();
    size_t *place = places(hits, keys, by_query);
    PyObject *bytes = place == NULL ? NULL : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(length * item));
    if (bytes != NULL) {
        int64_t *queries = (int64_t *)PyBytes_AsString(bytes);
        int64_t *rows = by_query ? queries + length : queries;
        uint16_t *distances = (uint16_t *)(rows + length);
        for (size_t i = 0; i < length; i++) {
            const Hit *hit = &hits->items[i];
            size_t at = place[by_query ? hit->query : hit->distance]++;
            if (by_query)
                queries[at] = hit->query;
            rows[at] = hit->row;
            distances[at] = (uint16_t)hit->distance;
        }
    }
    free(place);
    return bytes;
}

static PyObject *pack_bodies(const Job *job, size_t words)
{
    const size_t item = words * 8 + 10;
    size_t length = 0;
    for (size_t at = 0; at < job->length; at++)
        length += job->tasks[at].hits.length;
    if (length == 0)
        return Py_NewRef(Py_None);
    if (length > (size_t)PY_SSIZE_T_MAX / item)
        return PyErr_NoMemory();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(length * item));
    if (bytes == NULL)
        return NULL;
    uint64_t *bodies = (uint64_t *)PyBytes_AsString(bytes);
    int64_t *queries = (int64_t *)(bodies + length * words);
    uint16_t *distances = (uint16_t *)(queries + length);
    for (const Task *task = job->tasks; task < job->tasks + job->length; task++) {
        if (task->hits.length > 0)
            memcpy(bodies, task->bodies, task->hits.length * words * 8);
        bodies += task->hits.length * words;
        for (const Hit *hit = task->hits.items; hit < task->hits.items + task->hits.length; hit++) {
            *queries++ = hit->query;
            *distances++ = (uint16_t)hit->distance;
        }
    }
    return bytes;
}

/* ---- Python ---- */

typedef struct {
    Py_buffer view;
    Scan scan;
} Part;

/* Up to `length` parts, opened; how many they are in `opened`, which the caller releases whatever is returned. */
static int open_parts(PyObject *given, Part *parts, Py_ssize_t length, Py_ssize_t *opened)
{
    for (*opened = 0; *opened < length; (*opened)++) {
        PyObject *pair = PySequence_GetItem(given, *opened);
        PyObject *columns = pair == NULL ? NULL : PySequence_GetItem(pair, 0);
        PyObject *count = columns == NULL ? NULL : PySequence_GetItem(pair, 1);
        int status = count == NULL ? -1 : open_columns(columns, count, &parts[*opened].view, &parts[*opened].scan);
        Py_XDECREF(count);
        Py_XDECREF(columns);
        Py_XDECREF(pair);
        if (status < 0)
            return -1;
    }
    return 0;
}

/* Cuts the parts into tasks of whole groups of rows. */
static int plan(Job *job, const Part *parts, Py_ssize_t length, int words)
{
    const size_t compared = (size_t)words * (job->rows ? job->rows : 1);
    const size_t rows_max = (TASK_WORDS / compared / GROUP + 1) * GROUP;
    for (Py_ssize_t i = 0; i < length; i++)
        job->length += (parts[i].scan.count + rows_max - 1) / rows_max;
    if ((job->tasks = malloc((job->length + 1) * sizeof(Task))) == NULL)
        return -1;
    Task *task = job->tasks;
    for (Py_ssize_t i = 0; i < length; i++) {
        const Scan *scan = &parts[i].scan;
        for (size_t start = 0; start < scan->count; start += rows_max, task++) {
            task->scan = scan;
            task->start = start;
            task->end = scan->count - start > rows_max ? start + rows_max : scan->count;
            hits_open(&task->hits);
            task->bodies = NULL;
        }
    }
    return 0;
}

/* All parts in one job, so that the GIL is given away and taken back once: among busy threads getting it back is what costs. */
static PyObject *run_parts(Job *job, Part *parts, Py_ssize_t length, int words, size_t threads)
{
    size_t compared = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        parts[i].scan.words = words;
        parts[i].scan.ahead = job->rows < FETCHERS_MIN;
        compared += parts[i].scan.count * (size_t)words * job->rows;
    }
    job->find = active->find;
    if (plan(job, parts, length, words) < 0)
        return PyErr_NoMemory();
    size_t useful = compared / THREAD_WORDS;
    useful = useful < threads ? useful : threads;
    PyThreadState *thread = compared >= GIL_WORDS_MIN ? PyEval_SaveThread() : NULL;
    int status = run_job(job, useful > 0 ? useful - 1 : 0);
    if (thread != NULL)
        PyEval_RestoreThread(thread);
    PyObject *result = status < 0 ? PyErr_NoMemory() : pack_bodies(job, (size_t)words);
    for (size_t at = 0; at < job->length; at++) {
        hits_close(&job->tasks[at].hits);
        free(job->tasks[at].bodies);
    }
    free(job->tasks);
    return result;
}

/* Bodies are whole rows: the queries have as many words as the columns of every part. */
static PyObject *scan_all(PyObject *given, Part *parts, Py_ssize_t length, PyObject *asked, PyObject *radius, size_t threads)
{
    PyObject *result = NULL;
    Py_ssize_t opened;
    uint64_t *queries = NULL;
    uint32_t *radii = NULL;
    size_t rows = 0;
    int words = 0, whole = 1;
    if (open_parts(given, parts, length, &opened) == 0)
        queries = copy_queries(asked, 2, WORDS_MAX, &words, &rows);
    for (Py_ssize_t i = 0; queries != NULL && i < length && whole; i++)
        if (!(whole = parts[i].view.shape[0] == words))
            PyErr_Format(PyExc_ValueError, "queries do not fit columns query_words=%d column_words=%zd", words, parts[i].view.shape[0]);
    if (queries != NULL && whole && (radii = copy_radii(radius, words, rows)) != NULL) {
        Job job = {.queries = queries, .radii = radii, .rows = rows};
        result = run_parts(&job, parts, length, words, threads);
    }
    free(radii);
    free(queries);
    while (opened-- > 0)
        PyBuffer_Release(&parts[opened].view);
    return result;
}

static PyObject *body_scan(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    if (check_arguments(given, 4, "body_scan") < 0)
        return NULL;
    Py_ssize_t length = PySequence_Size(arguments[0]);
    if (length < 0)
        return NULL;
    Py_ssize_t threads = PyNumber_AsSsize_t(arguments[3], NULL);
    if (threads == -1 && PyErr_Occurred())
        return NULL;
    if (threads < 1)
        return PyErr_Format(PyExc_ValueError, "threads is less than one threads=%zd", threads);
    Part *parts = calloc((size_t)length + 1, sizeof(Part));
    if (parts == NULL)
        return PyErr_NoMemory();
    size_t most = threads > HELPERS_MAX ? HELPERS_MAX + 1 : (size_t)threads;
    PyObject *result = scan_all(arguments[0], parts, length, arguments[1], arguments[2], most);
    free(parts);
    return result;
}

static PyObject *range_scan(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    Py_buffer view;
    Scan scan;
    size_t length = 0;
    if (check_arguments(given, 4, "range_scan") < 0)
        return NULL;
    if (open_columns(arguments[0], arguments[1], &view, &scan) < 0)
        return NULL;
    PyObject *result = NULL;
    uint32_t *radii = NULL;
    uint64_t *queries = copy_queries(arguments[2], 2, view.shape[0], &scan.words, &length);
    if (queries != NULL && (radii = copy_radii(arguments[3], scan.words, length)) != NULL) {
        Hits hits;
        hits_open(&hits);
        Find *find = active->find;
        scan.ahead = length < FETCHERS_MIN;
        int long_enough = scan.count * (size_t)scan.words * length >= GIL_WORDS_MIN;
        PyThreadState *thread = long_enough ? PyEval_SaveThread() : NULL;
        int status = collect_all(&hits, find, &scan, 0, scan.count, queries, radii, length);
        if (thread != NULL)
            PyEval_RestoreThread(thread);
        result = status < 0 ? PyErr_NoMemory() : pack(&hits, length, 1);
        hits_close(&hits);
    }
    free(radii);
    free(queries);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *top_scan(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t given)
{
    Py_buffer view;
    Scan scan;
    size_t length = 0;
    if (check_arguments(given, 4, "top_scan") < 0)
        return NULL;
    Py_ssize_t limit = PyNumber_AsSsize_t(arguments[3], NULL);
    if (limit == -1 && PyErr_Occurred())
        return NULL;
    if (limit < 1)
        return PyErr_Format(PyExc_ValueError, "limit is less than one limit=%zd", limit);
    if (open_columns(arguments[0], arguments[1], &view, &scan) < 0)
        return NULL;
    PyObject *result = NULL;
    uint64_t *query = copy_queries(arguments[2], 1, view.shape[0], &scan.words, &length);
    if (query != NULL) {
        Hits hits;
        hits_open(&hits);
        Find *find = active->find;
        scan.ahead = 1;
        int long_enough = scan.count * (size_t)scan.words >= GIL_WORDS_MIN;
        PyThreadState *thread = long_enough ? PyEval_SaveThread() : NULL;
        int status = collect_top(&hits, find, &scan, query, (size_t)limit);
        if (thread != NULL)
            PyEval_RestoreThread(thread);
        result = status < 0 ? PyErr_NoMemory() : pack(&hits, (size_t)scan.words * 64 + 1, 0);
        hits_close(&hits);
    }
    free(query);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *list_variants(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *names = PyTuple_New((Py_ssize_t)variants_length);
    for (size_t i = 0; names != NULL && i < variants_length; i++) {
        PyObject *name = PyUnicode_FromString(variants[i].name);
        if (name == NULL || PyTuple_SetItem(names, (Py_ssize_t)i, name) < 0)
            Py_CLEAR(names);
    }
    return names;
}

static PyObject *active_variant(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString(active->name);
}

static PyObject *select_variant(PyObject *Py_UNUSED(module), PyObject *name)
{
    const char *wanted = PyUnicode_AsUTF8AndSize(name, NULL);
    if (wanted == NULL)
        return NULL;
    for (size_t i = 0; i < variants_length; i++)
        if (strcmp(variants[i].name, wanted) == 0) {
            active = &variants[i];
            return Py_NewRef(Py_None);
        }
    return PyErr_Format(PyExc_ValueError, "this processor cannot run the variant name=%s", wanted);
}

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"range_scan", FASTCALL(range_scan), METH_FASTCALL, "range_scan(columns, count, queries, radii) -> None | bytes"},
    {"body_scan", FASTCALL(body_scan), METH_FASTCALL, "body_scan([(columns, count), ...], queries, radii, threads) -> None | bytes"},
    {"top_scan", FASTCALL(top_scan), METH_FASTCALL, "top_scan(columns, count, query, limit) -> None | bytes"},
    {"variants", list_variants, METH_NOARGS, "variants() -> names of what this processor can run, best first"},
    {"variant", active_variant, METH_NOARGS, "variant() -> name of the active variant"},
    {"select", select_variant, METH_O, "select(name): make a variant the active one, for the whole process"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "The compiled scan kernel of the exact tier.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__scan(void)
{
    static int known; /* an import may come again */
    detect_variants();
    if (!known)
        known = pthread_atfork(NULL, NULL, forget_helpers) == 0;
    return PyModuleDef_Init(&definition);
}
