/* A compiled plan on the CPU: forward, backward and update of a network of primitives, one thread.

   A feature map is a list of blocks. A block is LANES channels of all images, channels last, so a pixel of it is one
   vector, [images][height * width][LANES]; the last block of a map may have channels that are zero throughout. Nodes
   share blocks, so identities and concatenation cost nothing. What a block holds is what a step made of it *before* its
   batch normalisation; whatever reads it normalises and rectifies an image at a time:

       forward    for each node, each image:   activate the blocks that the node reads      (slope * x + offset, ReLU)
                                               run the steps that read them, keep what they make, take in its moments
       backward   for each node, each image:   activate its blocks again
                                               for each block: add up the gradients from the steps that read it,
                                               keep them, take them into the sums that its normalisation needs

   Memory is what takes the time. So an image of a block stays in the nearest caches while all that reads it runs; what
   is cheap to compute again is not kept (activations, the middle of separable convolutions, the stem's windows); what
   is kept goes past the caches; and the next image is fetched while this one is computed with.

   Which blocks, steps and nodes there are, and where their memory lies, `program` decides. Compiled with REAL = float or
   double and VECTOR_BYTES = 32 or 64 for the machine at hand (`kernels`); no libraries. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if !defined(__AVX512F__) && VECTOR_BYTES > 32
#undef VECTOR_BYTES
#define VECTOR_BYTES 32
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), may_alias));

#define SAME_WIDTH(real) _Generic((real)0, float: (int32_t)0, double: (int64_t)0)
typedef __typeof__(SAME_WIDTH(REAL)) integer;
typedef integer mask __attribute__((vector_size(VECTOR_BYTES), may_alias));

static inline vector rectified(vector x) { return (vector)((mask)x & ~(x < 0)); } /* NaN stays NaN */
static inline vector where(mask chosen, vector x) { return (vector)(chosen & (mask)x); }

/* Writes past the caches where the processor can: what is kept is not read again soon. */
#if defined(__AVX512F__) && VECTOR_BYTES == 64
#include <immintrin.h>
static inline void keep(vector *to, vector x) { _mm512_stream_ps((float *)to, (__m512)x); }
#elif defined(__AVX__)
#include <immintrin.h>
static inline void keep(vector *to, vector x) { _mm256_stream_ps((float *)to, (__m256)x); }
#else
static inline void keep(vector *to, vector x) { *to = x; }
#endif

enum { MAXIMUM, AVERAGE, CONVOLUTION, DEPTHWISE, SEPARABLE, STEM, HEAD };
enum { MEAN, INVERSE, SLOPE, OFFSET, BY_GRADIENT, BY_VALUE, BY_ONE }; /* constants of a normalisation */

typedef struct {
    int64_t images, pixels;                      /* pixels of one image */
    vector *map;                                 /* [images][pixels], before normalisation */
    vector *d_map;                               /* gradient of what is read; of what passed the ReLU alone */
    vector *scale, *d_scale, *shift, *d_shift;   /* of the normalisation; NULL: there is none (poolings) */
    vector *running_mean, *running_variance;
    vector *constants;                           /* [7], as numbered above: of this pass */
    double *totals;                              /* what a pass over the images adds up: [2][LANES] */
} Block;

typedef struct { /* a block that a node reads */
    int64_t block;
    int64_t first, last; /* whether it is the first and the last on the way back to read that block */
} Use;

typedef struct {
    int64_t kind;
    int64_t use;                                 /* which of its node's it reads; steps with weights read all */
    int64_t result, results;                     /* blocks[result], ...: what it makes */
    int64_t stride, height, width;               /* of the result */
    vector *filters, *d_filters;                 /* of the first block: [9][filter_row], depthwise and separable */
    int64_t filter_row;                          /* in vectors */
    vector *weights, *d_weights;                 /* [inputs][results * LANES] */
    vector *turned;                              /* transposed: [results * LANES][inputs]; convolutions' in one piece */
    mask *winners;                               /* maximum: [images][height][width / 8], see there */
    REAL *pixels;                                /* stem: the images, [images][height * width][channels] */
    int64_t channels;
    vector *bias, *d_bias;                       /* head: [results] */
    vector *means, *d_means, *scores, *d_scores; /* head: [uses][images] and [results][images] */
    int64_t *labels, classes;                    /* head: [images] */
    REAL *class_weights;                         /* head: [classes], or null where all are 1 */
    REAL *loss;                                  /* head: mean cross-entropy */
} Step;

typedef struct {
    int64_t images, height, width;
    int64_t uses, first_use;     /* uses[first_use], ... */
    int64_t steps, first_step;   /* steps[first_step], ...: those that read it, convolutions first */
} Node;

typedef struct { /* of memory */
    const vector *next, *end;
} Range;

typedef struct {
    const Node *nodes;
    int64_t count; /* of nodes */
    const Use *uses;
    const Step *steps;
    const Block *blocks;
    /* room for one image of as many blocks as any node, or any step, has */
    vector *active, *middle, *result, *d_results;
    vector *d_active, *d_middle, *spread; /* of one block */
    vector *zeros, *lines;                /* rows of an image: one, and six */
    Range *ahead, *ahead_end;             /* what the next image will need and is not fetched yet */
    Range *ranges;                        /* room for them */
} Program;

static const REAL EPSILON = (REAL)1e-5, MOMENTUM = (REAL)0.1; /* PyTorch's defaults of batch normalisation */

/* ---- fetching ahead ---------------------------------------------------------------------------------------------- */
/* Fetches a little of what the next image needs. Called about every hundred cycles of computing: more at a time would
   only make the processor wait. */
static inline void fetch(Program *program) {
    if (program->ahead == program->ahead_end) return;
    Range *const r = program->ahead;
    for (int i = 0; i < 8 && r->next < r->end; i++) __builtin_prefetch(r->next++, 0, 2);
    if (r->next == r->end) program->ahead++;
}

static void fetch_later(Program *program, const vector *map, const Block *b, int64_t n) {
    if (n + 1 == b->images) return;
    program->ahead_end->next = map + (n + 1) * b->pixels;
    program->ahead_end++->end = map + (n + 2) * b->pixels;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */
#define UNROLLED _Pragma("GCC unroll 16") /* sums in registers */

/* results[v][first + i] (+)= sum of left[b][first + i][k] * weights[b * LANES + k][v] over blocks b and channels k */
#define TIMES(NAME, ROWS, VECTORS)                                                                                     \
    static inline __attribute__((always_inline)) void NAME(Program *program, int64_t first, int64_t blocks,            \
                                                           const vector *const *left, const vector *weights,           \
                                                           int64_t row, vector *const *results, int add) {             \
        vector sum[ROWS][VECTORS];                                                                                     \
        for (int i = 0; i < ROWS; i++)                                                                                 \
            for (int v = 0; v < VECTORS; v++) sum[i][v] = add ? results[v][first + i] : (vector){0};                   \
        for (int64_t b = 0; b < blocks; b++) {                                                                         \
            fetch(program);                                                                                            \
            const REAL *const l = (const REAL *)(left[b] + first);                                                     \
            for (int64_t k = 0; k < LANES; k++, weights += row) {                                                      \
                vector weight[VECTORS];                                                                                \
                for (int v = 0; v < VECTORS; v++) weight[v] = weights[v];                                              \
                UNROLLED for (int i = 0; i < ROWS; i++)                                                                \
                    UNROLLED for (int v = 0; v < VECTORS; v++) sum[i][v] += l[i * LANES + k] * weight[v];              \
            }                                                                                                          \
        }                                                                                                              \
        for (int i = 0; i < ROWS; i++)                                                                                 \
            for (int v = 0; v < VECTORS; v++) results[v][first + i] = sum[i][v];                                       \
    }
#define TALL (VECTOR_BYTES > 32 ? 12 : 6) /* rows whose sums fill the registers */
TIMES(times_tall_2, TALL, 2)
TIMES(times_tall_1, TALL, 1)
TIMES(times_4_2, 4, 2)
TIMES(times_4_1, 4, 1)
TIMES(times_1_1, 1, 1)

/* Blocks of `points` rows times weights [blocks * LANES][row vectors], of which the first `columns` vectors count. */
static void times(Program *program, int64_t points, int64_t blocks, const vector *const *left, const vector *weights,
                  int64_t row, int64_t columns, vector *const *results, int add) {
    int64_t v = 0;
    for (; v + 2 <= columns; v += 2) {
        int64_t p = 0;
        for (; p + TALL <= points; p += TALL)
            times_tall_2(program, p, blocks, left, weights + v, row, results + v, add);
        for (; p + 4 <= points; p += 4) times_4_2(program, p, blocks, left, weights + v, row, results + v, add);
        for (; p < points; p++)
            for (int64_t o = v; o < v + 2; o++) times_1_1(program, p, blocks, left, weights + o, row, results + o, add);
    }
    for (; v < columns; v++) {
        int64_t p = 0;
        for (; p + TALL <= points; p += TALL)
            times_tall_1(program, p, blocks, left, weights + v, row, results + v, add);
        for (; p + 4 <= points; p += 4) times_4_1(program, p, blocks, left, weights + v, row, results + v, add);
        for (; p < points; p++) times_1_1(program, p, blocks, left, weights + v, row, results + v, add);
    }
}

/* result[first + i][v] += sum over points of left's channel first + i times right[v] */
#define OUTER(NAME, ROWS, VECTORS)                                                                                     \
    static inline __attribute__((always_inline)) void NAME(Program *program, int64_t first, int64_t points,            \
                                                           const vector *left, const vector *const *right,             \
                                                           vector *result, int64_t row) {                              \
        vector sum[ROWS][VECTORS];                                                                                     \
        for (int i = 0; i < ROWS; i++)                                                                                 \
            for (int v = 0; v < VECTORS; v++) sum[i][v] = (vector){0};                                                 \
        for (int64_t start = 0; start < points; start += 16) {                                                         \
            fetch(program);                                                                                            \
            for (int64_t p = start; p < points && p < start + 16; p++) {                                               \
                const REAL *const l = (const REAL *)(left + p) + first;                                                \
                UNROLLED for (int v = 0; v < VECTORS; v++) {                                                           \
                    const vector r = right[v][p];                                                                      \
                    UNROLLED for (int i = 0; i < ROWS; i++) sum[i][v] += l[i] * r;                                     \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        for (int i = 0; i < ROWS; i++)                                                                                 \
            for (int v = 0; v < VECTORS; v++) result[(first + i) * row + v] += sum[i][v];                              \
    }
#define SHORT (VECTOR_BYTES > 32 ? 8 : 4)
OUTER(outer_short_2, SHORT, 2)
OUTER(outer_all_1, LANES, 1)

/* result [LANES][row vectors] += a block transposed times blocks */
static void outer(Program *program, int64_t points, const vector *left, const vector *const *right, int64_t row,
                  vector *result) {
    int64_t v = 0;
    for (; v + 2 <= row; v += 2)
        for (int64_t i = 0; i < LANES; i += SHORT) outer_short_2(program, i, points, left, right + v, result + v, row);
    for (; v < row; v++) outer_all_1(program, 0, points, left, right + v, result + v, row);
}

/* ---- neighbourhoods: one image of one block ---------------------------------------------------------------------- */
/* Slides a window over an image and runs the body for each pixel with window[9], of which only three are loaded anew,
   and `pixel`; zero beyond the border. */
#define SLIDE(program, image, height, width, ...)                                                                      \
    for (int64_t h = 0, pixel = 0; h < (height); h++) {                                                                \
        const vector *const lines[3] = {h > 0 ? (image) + (h - 1) * (width) : program->zeros, (image) + h * (width),   \
                                        h + 1 < (height) ? (image) + (h + 1) * (width) : program->zeros};              \
        fetch(program);                                                                                                \
        vector window[9];                                                                                              \
        for (int y = 0; y < 3; y++) {                                                                                  \
            window[3 * y + 1] = (vector){0};                                                                           \
            window[3 * y + 2] = *lines[y];                                                                             \
        }                                                                                                              \
        for (int64_t w = 0; w < (width); w++, pixel++) {                                                               \
            for (int y = 0; y < 3; y++) {                                                                              \
                window[3 * y] = window[3 * y + 1];                                                                     \
                window[3 * y + 1] = window[3 * y + 2];                                                                 \
                window[3 * y + 2] = w + 1 < (width) ? lines[y][w + 1] : (vector){0};                                   \
            }                                                                                                          \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

#define NINE_OF(window, filter)                                                                                        \
    ((window[0] * filter[0] + window[1] * filter[1] + window[2] * filter[2]) +                                         \
     (window[3] * filter[3] + window[4] * filter[4] + window[5] * filter[5]) +                                         \
     (window[6] * filter[6] + window[7] * filter[7] + window[8] * filter[8]))

static void depthwise(Program *program, const vector *image, int64_t height, int64_t width, const vector *filters,
                      int64_t filter_row, vector *result) {
    vector filter[9];
    for (int t = 0; t < 9; t++) filter[t] = filters[t * filter_row];
    SLIDE(program, image, height, width, result[pixel] = NINE_OF(window, filter);)
}

/* A pixel contributes to the nine results around it, by tap t to the one at 8 - t: filters turned around. */
static void depthwise_back(Program *program, const vector *image, int64_t height, int64_t width, const vector *filters,
                           vector *d_filters, int64_t filter_row, const vector *d_result, vector *d_image) {
    vector turned[9], sum[9];
    for (int t = 0; t < 9; t++) turned[t] = filters[(8 - t) * filter_row];
    memset(sum, 0, sizeof sum);
    SLIDE(program, d_result, height, width, {
        const vector x = image[pixel];
        d_image[pixel] += NINE_OF(window, turned);
        for (int t = 0; t < 9; t++) sum[t] += x * window[t];
    })
    for (int t = 0; t < 9; t++) d_filters[(8 - t) * filter_row] += sum[t];
}

/* Every stride-th pixel of every stride-th row, and back with zeros between them. */
static void thin(const vector *image, int64_t width, const Step *s, vector *result) {
    for (int64_t h = 0; h < s->height; h++)
        for (int64_t w = 0; w < s->width; w++) result[h * s->width + w] = image[(h * width + w) * s->stride];
}

static void spread(const vector *thinned, int64_t height, int64_t width, const Step *s, vector *result) {
    memset(result, 0, (size_t)(height * width) * sizeof(vector));
    for (int64_t h = 0; h < s->height; h++)
        for (int64_t w = 0; w < s->width; w++) result[(h * width + w) * s->stride] = thinned[h * s->width + w];
}

/* The largest of a row's three, then of three rows; of equals the first, as PyTorch has it; NaN is more than all. What
   won is kept in four bits, eight pixels of a row to a vector: 0, 1, 2 for which of the pixel's row's three won there,
   and 0, 4, 8 for which of the three rows won. */
#define LARGER(best, which, here, number)                                                                              \
    {                                                                                                                  \
        const mask more = ~((here) <= best);                                                                           \
        best = (vector)(((mask)best & ~more) | ((mask)(here) & more));                                                 \
        which = (which & ~more) | (((mask){0} + (number)) & more);                                                     \
    }
static int64_t eighths(int64_t width) { return (width + 7) / 8; }

static void maximum(Program *program, const vector *image, int64_t height, int64_t width, vector *result,
                    mask *winners) {
    vector *const best_of = program->lines; /* [3][width], rows in turn */
    mask *const which_of = (mask *)(best_of + 3 * width);
    for (int64_t h = -1; h < height; h++) {
        fetch(program);
        if (h + 1 < height) {
            const vector *const x = image + (h + 1) * width;
            const int64_t slot = (h + 1) % 3 * width;
            for (int64_t w = 0; w < width; w++) {
                vector best = x[w > 0 ? w - 1 : 0];
                mask which = (mask){0} + (integer)(w == 0);
                LARGER(best, which, x[w], 1)
                if (w + 1 < width) LARGER(best, which, x[w + 1], 2)
                best_of[slot + w] = best;
                which_of[slot + w] = which;
            }
        }
        if (h < 0) continue;
        const vector *const above = best_of + (h > 0 ? h - 1 : h) % 3 * width, *const level = best_of + h % 3 * width;
        const vector *const below = best_of + (h + 1 < height ? h + 1 : h) % 3 * width;
        mask eight = {0};
        for (int64_t w = 0; w < width; w++) {
            vector best = above[w];
            mask which = (mask){0} + (integer)(h > 0 ? 0 : 4);
            LARGER(best, which, level[w], 4)
            LARGER(best, which, below[w], 8)
            keep(result + h * width + w, best);
            eight |= (which | which_of[h % 3 * width + w]) << (int)(4 * (w % 8));
            if (w % 8 == 7 || w + 1 == width) {
                winners[h * eighths(width) + w / 8] = eight;
                eight = (mask){0};
            }
        }
    }
}

static void maximum_back(Program *program, const mask *winners, int64_t height, int64_t width, const vector *d_result,
                         vector *d_image) {
    const int64_t row = eighths(width);
    for (int64_t h = 0; h < height; h++) {
        fetch(program);
        const int64_t up = h > 0 ? h - 1 : h, down = h + 1 < height ? h + 1 : h;
        const vector *const above = h > 0 ? d_result + up * width : program->zeros, *const level = d_result + h * width;
        const vector *const below = h + 1 < height ? d_result + down * width : program->zeros;
        vector *const d = d_image + h * width;
        vector before = {0}, until = {0}; /* of the pixel before: its share to the right, and all but the next's */
        mask by_above = {0}, by_level = {0}, by_below = {0};
        for (int64_t w = 0; w < width; w++) {
            if (w % 8 == 0) {
                by_above = winners[up * row + w / 8];
                by_level = winners[h * row + w / 8];
                by_below = winners[down * row + w / 8];
            }
            const vector here = where((by_above & 12) == 8, above[w]) + where((by_level & 12) == 4, level[w]) +
                                where((by_below & 12) == 0, below[w]);
            if (w > 0) d[w - 1] += until + where((by_level & 3) == 0, here);
            until = before + where((by_level & 3) == 1, here);
            before = where((by_level & 3) == 2, here);
            by_above >>= 4;
            by_level >>= 4;
            by_below >>= 4;
        }
        d[width - 1] += until;
    }
}

/* 1 / how many of three neighbours in a line there are */
static inline REAL share(int64_t place, int64_t length) {
    return (REAL)1 / (REAL)(1 + (place > 0) + (place + 1 < length));
}

static void average(Program *program, const vector *image, int64_t height, int64_t width, vector *result) {
    for (int64_t h = 0; h < height; h++) {
        fetch(program);
        const vector *const above = h > 0 ? image + (h - 1) * width : program->zeros, *const level = image + h * width;
        const vector *const below = h + 1 < height ? image + (h + 1) * width : program->zeros;
        vector before = {0}, here = above[0] + level[0] + below[0];
        for (int64_t w = 0; w < width; w++) {
            vector after = {0};
            if (w + 1 < width) after = above[w + 1] + level[w + 1] + below[w + 1];
            keep(result + h * width + w, share(h, height) * share(w, width) * (before + here + after));
            before = here;
            here = after;
        }
    }
}

static void average_back(Program *program, int64_t height, int64_t width, const vector *d_result, vector *d_image) {
#define COLUMN(w) (up * above[w] + middle * level[w] + down * below[w]) * share(w, width)
    for (int64_t h = 0; h < height; h++) {
        fetch(program);
        const vector *const above = h > 0 ? d_result + (h - 1) * width : program->zeros;
        const vector *const level = d_result + h * width;
        const vector *const below = h + 1 < height ? d_result + (h + 1) * width : program->zeros;
        const REAL up = share(h - 1, height), middle = share(h, height), down = share(h + 1, height);
        vector before = {0}, here = COLUMN(0);
        for (int64_t w = 0; w < width; w++) {
            vector after = {0};
            if (w + 1 < width) after = COLUMN(w + 1);
            d_image[h * width + w] += before + here + after;
            before = here;
            here = after;
        }
    }
#undef COLUMN
}

/* ---- normalisation and ReLU: one image of one block -------------------------------------------------------------- */
/* The image as it is read, in `room` unless it lies in the map like that. */
static const vector *activate(const Block *b, int64_t n, vector *room) {
    const vector *const x = b->map + n * b->pixels;
    if (b->scale == NULL) return x;
    const vector slope = b->constants[SLOPE], offset = b->constants[OFFSET];
    for (int64_t p = 0; p < b->pixels; p++) room[p] = rectified(slope * x[p] + offset);
    return room;
}

/* Keeps what a step made of the image, and takes it into the mean and the sum of squared distances from it. */
static void take_in(const Block *b, int64_t n, const vector *x) {
    const int64_t count = b->pixels, before = n * count;
    vector *const kept = b->map + before, guess = x[0], sum = {0}, squares = {0};
    if (n > 0) /* near the mean, so that the difference of squares below is no small one of large ones */
        for (int l = 0; l < LANES; l++) guess[l] = (REAL)b->totals[l];
    for (int64_t p = 0; p < count; p++) {
        const vector away = x[p] - guess;
        sum += away;
        squares += away * away;
        keep(kept + p, x[p]);
    }
    const double all = (double)(before + count), new_share = (double)count / all;
    for (int l = 0; l < LANES; l++) { /* Chan, Golub, LeVeque 1979: two parts' moments make the whole's */
        const double from_guess = (double)sum[l] / (double)count, away = (double)guess[l] + from_guess - b->totals[l];
        const double distances = (double)squares[l] - (double)sum[l] * from_guess;
        b->totals[l] += away * new_share;
        b->totals[LANES + l] += distances + away * away * new_share * (double)before;
    }
}

/* From what was taken in (training), or from the running statistics, to the constants of the way there. */
static void conclude(const Block *b, int training) {
    const double points = (double)(b->images * b->pixels);
    vector mean = *b->running_mean, inverse;
    for (int l = 0; l < LANES; l++) {
        double variance = (double)(*b->running_variance)[l];
        if (training) {
            const double squares = b->totals[LANES + l];
            variance = squares / points;
            mean[l] = (REAL)b->totals[l];
            (*b->running_mean)[l] += MOMENTUM * (mean[l] - (*b->running_mean)[l]);
            (*b->running_variance)[l] +=
                MOMENTUM * ((REAL)(points > 1 ? squares / (points - 1) : variance) - (*b->running_variance)[l]);
        }
        inverse[l] = (REAL)(1.0 / sqrt(variance + (double)EPSILON));
    }
    b->constants[MEAN] = mean;
    b->constants[INVERSE] = inverse;
    b->constants[SLOPE] = *b->scale * inverse;
    b->constants[OFFSET] = *b->shift - mean * b->constants[SLOPE];
}

/* Keeps the image's gradient; if it is complete, only where something passed the ReLU, and takes it into the sums. */
static void take_in_back(const Block *b, int64_t n, const vector *active, const vector *d, int complete) {
    vector *const kept = b->d_map + n * b->pixels;
    if (b->scale == NULL || !complete) {
        for (int64_t p = 0; p < b->pixels; p++) keep(kept + p, d[p]);
        return;
    }
    const vector *const x = b->map + n * b->pixels, mean = b->constants[MEAN];
    vector sum[2] = {{0}}, by_value[2] = {{0}};
    for (int64_t p = 0; p < b->pixels; p++) {
        const vector passed = where(active[p] > 0, d[p]);
        sum[p % 2] += passed;
        by_value[p % 2] += passed * (x[p] - mean);
        keep(kept + p, passed);
    }
    const vector all = sum[0] + sum[1], all_by_value = by_value[0] + by_value[1];
    for (int l = 0; l < LANES; l++) {
        b->totals[l] += (double)all[l];
        b->totals[LANES + l] += (double)all_by_value[l];
    }
}

/* Gradients of shift and scale, and the constants of the way back:
   d x = slope * (d - mean of d - normal * mean of (d * normal)), normal = (x - mean) * inverse */
static void conclude_back(const Block *b) {
    const double points = (double)(b->images * b->pixels);
    const vector mean = b->constants[MEAN], inverse = b->constants[INVERSE], slope = b->constants[SLOPE];
    vector sum, by_normal;
    for (int l = 0; l < LANES; l++) {
        sum[l] = (REAL)b->totals[l];
        by_normal[l] = (REAL)(b->totals[LANES + l] * (double)inverse[l]);
    }
    *b->d_shift += sum;
    *b->d_scale += by_normal;
    b->constants[BY_GRADIENT] = slope;
    b->constants[BY_VALUE] = -slope * inverse * (by_normal / (REAL)points);
    b->constants[BY_ONE] = -slope * (sum / (REAL)points) - b->constants[BY_VALUE] * mean;
}

/* The gradient of what the step made, before normalisation. */
static void normalise_back(const Block *b, int64_t n, vector *result) {
    const vector *const x = b->map + n * b->pixels, *const d = b->d_map + n * b->pixels;
    const vector by_gradient = b->constants[BY_GRADIENT], by_value = b->constants[BY_VALUE];
    const vector by_one = b->constants[BY_ONE];
    for (int64_t p = 0; p < b->pixels; p++) result[p] = by_gradient * d[p] + (by_value * x[p] + by_one);
}

/* ---- the ends of the network ------------------------------------------------------------------------------------- */
/* The nine pixels around each, 9 * channels numbers, as blocks: window[block][pixel][LANES], zero at the end. */
static void stem_windows(const Step *s, int64_t n, vector *windows) {
    const int64_t C = s->channels, pixels = s->height * s->width, blocks = (9 * C + LANES - 1) / LANES;
    const REAL *const image = s->pixels + n * pixels * C;
    memset(windows, 0, (size_t)(blocks * pixels) * sizeof(vector));
    for (int64_t t = 0; t < 9; t++)
        for (int64_t c = 0; c < C; c++) {
            const int64_t input = t * C + c;
            REAL *const to = (REAL *)(windows + input / LANES * pixels) + input % LANES;
            for (int64_t h = 0; h < s->height; h++) {
                const int64_t y = h + t / 3 - 1, left = t % 3 == 0, right = s->width - (t % 3 == 2);
                if (y < 0 || y >= s->height) continue;
                for (int64_t w = left; w < right; w++)
                    to[(h * s->width + w) * LANES] = image[(y * s->width + w + t % 3 - 1) * C + c];
            }
        }
}

static void pointers(vector *const base, int64_t count, int64_t pixels, vector **to) {
    for (int64_t b = 0; b < count; b++) to[b] = base + b * pixels;
}

/* Scores of the means, their cross-entropy and its gradient. */
static void head(Program *program, const Node *node, const Step *s, int training) {
    const int64_t images = node->images;
    vector *means[node->uses], *scores[s->results], *d_scores[s->results];
    pointers(s->means, node->uses, images, means);
    pointers(s->scores, s->results, images, scores);
    pointers(s->d_scores, s->results, images, d_scores);
    for (int64_t b = 0; b < s->results; b++)
        for (int64_t n = 0; n < images; n++) scores[b][n] = s->bias[b];
    times(program, images, node->uses, (const vector *const *)means, s->weights, s->results, s->results, scores, 1);
    if (!training) return;
    double loss = 0;
#define OF(maps, o) ((REAL *)(maps[(o) / LANES] + n))[(o) % LANES]
    for (int64_t n = 0; n < images; n++) {
        double most = (double)OF(scores, 0), sum = 0;
        for (int64_t o = 1; o < s->classes; o++)
            if ((double)OF(scores, o) > most) most = (double)OF(scores, o);
        for (int64_t o = 0; o < s->classes; o++) sum += exp((double)OF(scores, o) - most);
        const double own = log(sum) + most - (double)OF(scores, s->labels[n]);
        loss += s->class_weights ? (double)s->class_weights[s->labels[n]] * own : own;
        for (int64_t b = 0; b < s->results; b++) d_scores[b][n] = (vector){0};
        for (int64_t o = 0; o < s->classes; o++) {
            double gradient = (exp((double)OF(scores, o) - most) / sum - (o == s->labels[n])) / (double)images;
            if (s->class_weights) gradient *= (double)s->class_weights[s->labels[n]];
            OF(d_scores, o) = (REAL)gradient;
        }
    }
#undef OF
    *s->loss = (REAL)(loss / (double)images);
}

static void head_back(Program *program, const Node *node, const Step *s) {
    const int64_t images = node->images;
    vector *d_means[node->uses], *d_scores[s->results];
    pointers(s->d_means, node->uses, images, d_means);
    pointers(s->d_scores, s->results, images, d_scores);
    for (int64_t b = 0; b < s->results; b++)
        for (int64_t n = 0; n < images; n++) s->d_bias[b] += d_scores[b][n];
    for (int64_t u = 0; u < node->uses; u++)
        outer(program, images, s->means + u * images, (const vector *const *)d_scores, s->results,
              s->d_weights + u * LANES * s->results);
    times(program, images, s->results, (const vector *const *)d_scores, s->turned, node->uses, node->uses, d_means, 0);
}

/* ---- all nodes --------------------------------------------------------------------------------------------------- */
int64_t lanes(void) { return LANES; }
int64_t size_of(int64_t record) {
    const size_t sizes[] = {sizeof(Block), sizeof(Use), sizeof(Step), sizeof(Node), sizeof(Program), sizeof(Range)};
    return (int64_t)sizes[record];
}

static const Block *used(Program *program, const Node *node, int64_t use) {
    return program->blocks + program->uses[node->first_use + use].block;
}

/* The image n of all blocks that a node reads. */
static void activate_all(Program *program, const Node *node, int64_t n, const vector **active) {
    program->ahead = program->ahead_end = program->ranges;
    for (int64_t u = 0; u < node->uses; u++) {
        const Block *const b = used(program, node, u);
        active[u] = activate(b, n, program->active + u * b->pixels);
        fetch_later(program, b->map, b, n);
    }
}

/* The depthwise part of a step for the image of a block; `number` of that block among the step's. */
static void filtered(Program *program, const Node *node, const Step *s, int64_t number, const vector *active,
                     vector *result) {
    vector *const whole = s->stride == 1 ? result : program->spread;
    depthwise(program, active, node->height, node->width, s->filters + number, s->filter_row, whole);
    if (s->stride != 1) thin(whole, node->width, s, result);
}

static void run(Program *program, const Node *node, const Step *s, int64_t n, const vector *const *active,
                int training) {
    const int64_t height = node->height, width = node->width, pixels = s->height * s->width;
    const Block *const made = program->blocks + s->result;
    if (s->kind == MAXIMUM) {
        maximum(program, active[s->use], height, width, made->map + n * pixels,
                s->winners + n * height * eighths(width));
    } else if (s->kind == AVERAGE) {
        average(program, active[s->use], height, width, made->map + n * pixels);
    } else if (s->kind == HEAD) {
        for (int64_t u = 0; u < node->uses; u++) {
            vector sum = {0};
            for (int64_t p = 0; p < height * width; p++) sum += active[u][p];
            s->means[u * node->images + n] = sum / (REAL)(height * width);
        }
    } else {
        const int64_t inputs = s->kind == STEM ? (9 * s->channels + LANES - 1) / LANES : node->uses;
        vector *results[s->results], *middle[inputs];
        pointers(program->middle, inputs, pixels, middle);
        for (int64_t b = 0; b < s->results; b++)
            results[b] = training ? program->result + b * pixels : made[b].map + n * pixels;
        if (s->kind == DEPTHWISE) {
            filtered(program, node, s, 0, active[s->use], results[0]);
        } else {
            if (s->kind == STEM) stem_windows(s, n, program->middle);
            if (s->kind == SEPARABLE)
                for (int64_t u = 0; u < node->uses; u++) filtered(program, node, s, u, active[u], middle[u]);
            times(program, pixels, inputs, s->kind == CONVOLUTION ? active : (const vector *const *)middle, s->weights,
                  s->results, s->results, results, 0);
        }
        if (training)
            for (int64_t b = 0; b < s->results; b++) take_in(made + b, n, results[b]);
    }
}

void forward(Program *program, int training) {
    for (const Node *node = program->nodes; node < program->nodes + program->count; node++) {
        const Step *const steps = program->steps + node->first_step, *const end = steps + node->steps;
        const vector *active[node->uses + 1];
        for (const Step *s = steps; s < end; s++)
            for (const Block *b = program->blocks + s->result; b < program->blocks + s->result + s->results; b++)
                if (s->kind != HEAD && b->scale != NULL) memset(b->totals, 0, 2 * LANES * sizeof(double));
        for (int64_t n = 0; n < node->images; n++) {
            activate_all(program, node, n, active);
            for (const Step *s = steps; s < end; s++) run(program, node, s, n, active, training);
        }
        for (const Step *s = steps; s < end; s++) {
            if (s->kind == HEAD) {
                head(program, node, s, training);
                continue;
            }
            for (const Block *b = program->blocks + s->result; b < program->blocks + s->result + s->results; b++)
                if (b->scale != NULL) conclude(b, training);
        }
    }
}

/* Adds what a step passes back to the image of one block that its node reads. */
static void run_back(Program *program, const Node *node, const Step *s, int64_t n, int64_t use,
                     const vector *active, const vector *const *d_results) {
    const int64_t height = node->height, width = node->width, pixels = s->height * s->width, row = s->results;
    const Block *const made = program->blocks + s->result;
    vector *const d = program->d_active, *d_middle = program->d_middle;
    switch (s->kind) {
        case MAXIMUM:
            maximum_back(program, s->winners + n * height * eighths(width), height, width, made->d_map + n * pixels, d);
            break;
        case AVERAGE: average_back(program, height, width, made->d_map + n * pixels, d); break;
        case HEAD:
            for (int64_t p = 0; p < height * width; p++)
                d[p] += s->d_means[use * node->images + n] / (REAL)(height * width);
            break;
        case DEPTHWISE:
            depthwise_back(program, active, height, width, s->filters, s->d_filters, s->filter_row, d_results[0], d);
            break;
        case CONVOLUTION: outer(program, pixels, active, d_results, row, s->d_weights + use * LANES * row); break;
        case SEPARABLE:
            filtered(program, node, s, use, active, program->middle);
            outer(program, pixels, program->middle, d_results, row, s->d_weights + use * LANES * row);
            times(program, pixels, row, d_results, s->turned + use, node->uses, 1, &d_middle, 0);
            if (s->stride != 1) {
                spread(d_middle, height, width, s, program->spread);
                d_middle = program->spread;
            }
            depthwise_back(program, active, height, width, s->filters + use, s->d_filters + use, s->filter_row,
                           d_middle, d);
            break;
    }
}

/* Adds the gradients of the stem's weights, before which nothing is trained. */
static void stem_back(Program *program, const Step *s, int64_t n, const vector *const *d_results) {
    const int64_t pixels = s->height * s->width, windows = (9 * s->channels + LANES - 1) / LANES;
    stem_windows(s, n, program->middle);
    for (int64_t b = 0; b < windows; b++)
        outer(program, pixels, program->middle + b * pixels, d_results, s->results,
              s->d_weights + b * LANES * s->results);
}

static void turn(const Node *node, const Step *s) {
    const int64_t inputs = node->uses * LANES, outputs = s->results * LANES;
    const REAL *const from = (const REAL *)s->weights;
    REAL *const to = (REAL *)s->turned;
    for (int64_t i = 0; i < inputs; i++)
        for (int64_t o = 0; o < outputs; o++) to[o * inputs + i] = from[i * outputs + o];
}

/* Adds the gradients of the loss of the last training forward to those of all parameters. */
void backward(Program *program) {
    for (const Node *node = program->nodes + program->count - 1; node >= program->nodes; node--) {
        const Step *const steps = program->steps + node->first_step, *const end = steps + node->steps;
        const int64_t image = node->height * node->width;
        int64_t made = 0, convolved = 0; /* results of all steps, of convolutions: they stand first */
        for (const Step *s = steps; s < end; s++) {
            if (s->kind == CONVOLUTION) convolved += s->results;
            if (s->turned != NULL) turn(node, s);
            if (s->kind == HEAD) head_back(program, node, s);
            else made += s->results;
        }
        for (int64_t u = 0; u < node->uses; u++) {
            const Block *const b = used(program, node, u);
            if (b->scale != NULL) memset(b->totals, 0, 2 * LANES * sizeof(double));
        }
        const vector *active[node->uses + 1], *d_results[made + 1];
        for (int64_t n = 0; n < node->images; n++) {
            activate_all(program, node, n, active);
            vector *room = program->d_results;
            int64_t number = 0;
            for (const Step *s = steps; s < end; s++) {
                if (s->kind == HEAD) continue;
                for (const Block *b = program->blocks + s->result; b < program->blocks + s->result + s->results; b++) {
                    if (b->scale != NULL) {
                        normalise_back(b, n, room);
                        fetch_later(program, b->map, b, n);
                    }
                    fetch_later(program, b->d_map, b, n);
                    d_results[number++] = room;
                    room += s->height * s->width;
                }
                if (s->kind == STEM) stem_back(program, s, n, d_results + number - s->results);
            }
            for (int64_t u = 0; u < node->uses; u++) {
                const Use *const use = program->uses + node->first_use + u;
                const Block *const b = program->blocks + use->block;
                vector *const d = program->d_active;
                if (!use->first) {
                    memcpy(d, b->d_map + n * image, (size_t)image * sizeof(vector));
                    fetch_later(program, b->d_map, b, n);
                } else if (convolved == 0) {
                    memset(d, 0, (size_t)image * sizeof(vector));
                }
                if (convolved > 0)
                    times(program, image, convolved, d_results, steps->turned + u, node->uses, 1, &d, !use->first);
                number = 0;
                for (const Step *s = steps; s < end; s++) {
                    if (s->use == u || s->weights != NULL)
                        run_back(program, node, s, n, u, active[u], d_results + number);
                    number += s->kind == HEAD ? 0 : s->results;
                }
                take_in_back(b, n, active[u], d, (int)use->last);
            }
        }
        for (int64_t u = 0; u < node->uses; u++) {
            const Use *const use = program->uses + node->first_use + u;
            if (use->last && program->blocks[use->block].scale != NULL) conclude_back(program->blocks + use->block);
        }
    }
}

/* SGD with momentum and weight decay on all parameters, as torch.optim.SGD computes it. */
void update(REAL *restrict parameters, const REAL *restrict gradients, REAL *restrict velocity, int64_t count,
            REAL rate, REAL momentum, REAL decay) {
    for (int64_t i = 0; i < count; i++) {
        velocity[i] = momentum * velocity[i] + (gradients[i] + decay * parameters[i]);
        parameters[i] -= rate * velocity[i];
    }
}
