/* A compiled plan on the CPU: forward, backward and update of a network of primitives, one thread.

   Feature maps are [P][C] (P = images x height x width, channels last), one a node. A step reads the map of its source
   and writes its slice of the map of its target, so concatenation costs nothing. What a step computes before its batch
   normalisation is kept (`raw`); the normalisation belongs to the target. Memory is what takes the time, so everything
   that happens at a node happens image by image, while the image's part of its map is in the cache:

       forward    normalise what comes in ─► run the steps that go out, take in their means and variances
       backward   gradients of the steps that went out, added up ─► sums for the normalisations that came in

   So convolutions and poolings of one map read it once. Which nodes and steps there are, and where their memory lies,
   `plan` decides. Compiled with REAL = float or double and VECTOR_BYTES = 32 or 64 for the
   machine at hand (`kernels`); no libraries. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__AVX512F__) && VECTOR_BYTES > 32
#undef VECTOR_BYTES
#define VECTOR_BYTES 32
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

#define SAME_WIDTH(real) _Generic((real)0, float: (int32_t)0, double: (int64_t)0)
typedef __typeof__(SAME_WIDTH(REAL)) integer;
typedef integer mask __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef uint8_t bytes __attribute__((vector_size(VECTOR_BYTES / sizeof(REAL)), aligned(1), may_alias));

/* Runs the body along `count` channels, c at a time: whole vectors, then single numbers; `real` is what is at hand. */
#define ALONG(count, ...)                                                                                               \
    {                                                                                                                   \
        int64_t c = 0;                                                                                                  \
        for (; c + LANES <= (count); c += LANES) {                                                                      \
            typedef vector real;                                                                                        \
            __VA_ARGS__                                                                                                 \
        }                                                                                                               \
        for (; c < (count); c++) {                                                                                      \
            typedef REAL real;                                                                                          \
            __VA_ARGS__                                                                                                 \
        }                                                                                                               \
    }
#define AT(row) (*(real *)((row) + c))

static inline vector rectified_vector(vector x) { return (vector)((mask)x & ~(x < 0)); } /* NaN stays NaN */
static inline REAL rectified_number(REAL x) { return x < 0 ? 0 : x; }
#define RECTIFIED(x) _Generic((x), vector: rectified_vector, REAL: rectified_number)(x)
static inline vector passed_vector(vector d, vector x) { return (vector)((mask)d & (x > 0)); }
static inline REAL passed_number(REAL d, REAL x) { return x > 0 ? d : 0; }
#define PASSED(d, x) _Generic((d), vector: passed_vector, REAL: passed_number)(d, x) /* d where x > 0 */

enum { COPY, MAXIMUM, AVERAGE, CONVOLUTION, DEPTHWISE, SEPARABLE, STEM, HEAD };

typedef struct {
    int64_t kind, images, height, width, channels;  /* of the source */
    int64_t outputs, stride, out_height, out_width; /* of the result */
    int64_t row;                                    /* channels of the target's map, of which the slice is a part */
    int64_t source_row;                             /* channels of the source's map (COPY: of which it is a part) */
    REAL *source, *d_source, *target, *d_target;    /* d_source NULL: nothing before the source is trained */
    REAL *filters, *d_filters;                      /* depthwise: [9][channels] */
    REAL *weights, *d_weights;                      /* [inputs][outputs] */
    REAL *scale, *d_scale, *shift, *d_shift;        /* of the normalisation: [outputs] */
    REAL *running_mean, *running_variance;          /* [outputs] */
    REAL *statistics;                               /* mean and 1/deviation: [2][outputs] */
    REAL *raw, *d_raw;                              /* before normalisation: [P'][outputs]; d_raw: of one image */
    REAL *middle;                                   /* separable: after the depthwise part; stem: windows */
    REAL *d_middle;                                 /* its gradient, of one image: [P' / images][channels] */
    double *totals;                                 /* what a pass over the images adds up: [2][outputs] */
    REAL *sums;                                     /* backward: mean d shift and mean d scale, [2][outputs] */
    uint8_t *winners;                               /* maximum: which of the nine, [P][channels] */
    REAL *zeros, *lowest;                           /* beyond the border: [most channels] */
    REAL *room;                                     /* for transposed weights */
    int64_t *labels;                                /* head: [images] */
    REAL *loss;                                     /* head: mean cross-entropy */
} Step;

typedef struct {
    int64_t images, pixels, channels;
    int64_t outs, first_out; /* steps that read the map: steps[first_out ...] */
    int64_t ins, first_in;   /* steps with a normalisation into the map: steps[in[first_in ...]] */
    REAL *map, *d_map;
} Node;

static const REAL EPSILON = (REAL)1e-5, MOMENTUM = (REAL)0.1; /* PyTorch's defaults of batch normalisation */

/* ---- products ---------------------------------------------------------------------------------------------------- */
/* result[i][0..VECTORS*LANES) += sum_k left(i, k) * right[k][...], left(i, k) = left[i * by_row + k * by_column] */
#define MICRO(ROWS, VECTORS)                                                                                            \
    static inline __attribute__((always_inline)) void micro_##ROWS##_##VECTORS(                                        \
        int64_t depth, const REAL *left, int64_t by_row, int64_t by_column, const REAL *right, int64_t right_row,       \
        REAL *result, int64_t result_row) {                                                                             \
        vector sum[ROWS][VECTORS];                                                                                      \
        for (int i = 0; i < ROWS; i++)                                                                                  \
            for (int v = 0; v < VECTORS; v++) sum[i][v] = *(vector *)(result + i * result_row + v * LANES);             \
        for (int64_t k = 0; k < depth; k++) {                                                                           \
            vector factor[VECTORS];                                                                                     \
            for (int v = 0; v < VECTORS; v++) factor[v] = *(const vector *)(right + k * right_row + v * LANES);         \
            for (int i = 0; i < ROWS; i++) {                                                                            \
                REAL scalar = left[i * by_row + k * by_column];                                                         \
                for (int v = 0; v < VECTORS; v++) sum[i][v] += scalar * factor[v];                                      \
            }                                                                                                           \
        }                                                                                                               \
        for (int i = 0; i < ROWS; i++)                                                                                  \
            for (int v = 0; v < VECTORS; v++) *(vector *)(result + i * result_row + v * LANES) = sum[i][v];             \
    }
MICRO(8, 2)
MICRO(8, 1)
MICRO(1, 2)
MICRO(1, 1)

static void add_product(int64_t rows, int64_t columns, int64_t depth, const REAL *left, int64_t by_row,
                        int64_t by_column, const REAL *right, int64_t right_row, REAL *result, int64_t result_row) {
    for (int64_t i = 0; i < rows;) {
        int64_t tall = rows - i >= 8, j = 0;
        const REAL *l = left + i * by_row;
        REAL *r = result + i * result_row;
        for (; j + 2 * LANES <= columns; j += 2 * LANES)
            if (tall) micro_8_2(depth, l, by_row, by_column, right + j, right_row, r + j, result_row);
            else micro_1_2(depth, l, by_row, by_column, right + j, right_row, r + j, result_row);
        for (; j + LANES <= columns; j += LANES)
            if (tall) micro_8_1(depth, l, by_row, by_column, right + j, right_row, r + j, result_row);
            else micro_1_1(depth, l, by_row, by_column, right + j, right_row, r + j, result_row);
        for (int64_t a = 0; a < (tall ? 8 : 1); a++)
            for (int64_t c = j; c < columns; c++) {
                REAL sum = r[a * result_row + c];
                for (int64_t k = 0; k < depth; k++) sum += l[a * by_row + k * by_column] * right[k * right_row + c];
                r[a * result_row + c] = sum;
            }
        i += tall ? 8 : 1;
    }
}

/* result = source x weights */
static void project(int64_t points, int64_t inputs, int64_t outputs, const REAL *source, const REAL *weights,
                    REAL *result) {
    memset(result, 0, (size_t)(points * outputs) * sizeof(REAL));
    add_product(points, outputs, inputs, source, inputs, 1, weights, outputs, result, outputs);
}

/* d_source += d_result x weights', d_weights += source' x d_result */
static void project_back(int64_t points, int64_t inputs, int64_t outputs, const REAL *source, REAL *d_source,
                         const REAL *weights, REAL *d_weights, const REAL *d_result, REAL *transposed) {
    const int64_t chunk = 256; /* points whose rows stay in the nearest cache */
    for (int64_t p = 0; p < points; p += chunk)
        add_product(inputs, outputs, points - p < chunk ? points - p : chunk, source + p * inputs, 1, inputs,
                    d_result + p * outputs, outputs, d_weights, outputs);
    if (d_source == NULL) return;
    for (int64_t i = 0; i < inputs; i++)
        for (int64_t o = 0; o < outputs; o++) transposed[o * inputs + i] = weights[i * outputs + o];
    add_product(points, inputs, outputs, d_result, outputs, 1, transposed, inputs, d_source, inputs);
}

/* ---- neighbourhoods ---------------------------------------------------------------------------------------------- */
/* Runs the body for each result pixel (h, w) of image n with tap[9], pointers to the channels of its nine source pixels,
   `outside` where there is none, and `point`, its number among all images'. */
#define EACH_PIXEL(s, n, map, outside, ...)                                                                             \
    for (int64_t h = 0, point = (n) * (s)->out_height * (s)->out_width; h < (s)->out_height; h++)                       \
        for (int64_t w = 0; w < (s)->out_width; w++, point++) {                                                         \
            const int64_t y0 = h * (s)->stride, x0 = w * (s)->stride, line = (s)->width * (s)->channels;                \
            const REAL *const centre = (map) + (((n) * (s)->height + y0) * (s)->width + x0) * (s)->channels;            \
            const REAL *tap[9];                                                                                         \
            if (y0 > 0 && y0 + 1 < (s)->height && x0 > 0 && x0 + 1 < (s)->width) {                                      \
                for (int t = 0; t < 9; t++) tap[t] = centre + (t / 3 - 1) * line + (t % 3 - 1) * (s)->channels;         \
            } else {                                                                                                    \
                for (int t = 0; t < 9; t++) {                                                                           \
                    const int64_t y = y0 + t / 3 - 1, x = x0 + t % 3 - 1;                                               \
                    const int inside = y >= 0 && y < (s)->height && x >= 0 && x < (s)->width;                           \
                    tap[t] = inside ? centre + (t / 3 - 1) * line + (t % 3 - 1) * (s)->channels : (outside);            \
                }                                                                                                       \
            }                                                                                                           \
            __VA_ARGS__                                                                                                 \
        }

/* Runs the body for each source pixel (h, w) of image n, number `point`, with from[9]: the numbers, within the image, of
   the result pixels that read it as their tap t, or -1. */
#define EACH_SOURCE_PIXEL(s, n, ...)                                                                                    \
    for (int64_t h = 0, point = (n) * (s)->height * (s)->width; h < (s)->height; h++)                                   \
        for (int64_t w = 0; w < (s)->width; w++, point++) {                                                             \
            int64_t from[9];                                                                                            \
            const int64_t pace = (s)->stride, line = (s)->out_width;                                                    \
            if (pace == 1 && h > 0 && h + 1 < (s)->height && w > 0 && w + 1 < (s)->width) {                             \
                for (int t = 0; t < 9; t++) from[t] = (h + 1 - t / 3) * line + w + 1 - t % 3;                           \
            } else {                                                                                                    \
                for (int t = 0; t < 9; t++) {                                                                           \
                    const int64_t y = h + 1 - t / 3, x = w + 1 - t % 3;                                                 \
                    const int reads = y >= 0 && x >= 0 && y % pace == 0 && x % pace == 0 &&                             \
                                      y / pace < (s)->out_height && x / pace < (s)->out_width;                          \
                    from[t] = reads ? y / pace * line + x / pace : -1;                                                  \
                }                                                                                                       \
            }                                                                                                           \
            __VA_ARGS__                                                                                                 \
        }

#define NINE(term) (term(0) + term(1) + term(2) + term(3) + term(4) + term(5) + term(6) + term(7) + term(8))

/* Slides a window over one image of [height][width] pixels, `row` numbers each, a vector of channels at a time. Runs the
   body for each pixel with window[9], of which only three numbers are loaded anew, and `pixel`; zero beyond the border. */
#define SLIDE(map, image_height, image_width, row, ...)                                                                 \
    for (int64_t h = 0, pixel = 0; h < (image_height); h++) {                                                           \
        const REAL *const lines[3] = {(map) + (h - 1) * (image_width) * (row), (map) + h * (image_width) * (row),       \
                                      (map) + (h + 1) * (image_width) * (row)};                                         \
        const int there[3] = {h > 0, 1, h + 1 < (image_height)};                                                        \
        vector window[9];                                                                                               \
        for (int y = 0; y < 3; y++) {                                                                                   \
            window[3 * y + 1] = (vector){0};                                                                            \
            window[3 * y + 2] = there[y] ? *(const vector *)lines[y] : (vector){0};                                     \
        }                                                                                                               \
        for (int64_t w = 0; w < (image_width); w++, pixel++) {                                                          \
            for (int y = 0; y < 3; y++) {                                                                               \
                window[3 * y] = window[3 * y + 1];                                                                      \
                window[3 * y + 1] = window[3 * y + 2];                                                                  \
                window[3 * y + 2] = there[y] && w + 1 < (image_width) ? *(const vector *)(lines[y] + (w + 1) * (row))   \
                                                                      : (vector){0};                                    \
            }                                                                                                           \
            __VA_ARGS__                                                                                                 \
        }                                                                                                               \
    }

#define NINE_OF(window, filter)                                                                                         \
    ((window[0] * filter[0] + window[1] * filter[1] + window[2] * filter[2]) +                                          \
     (window[3] * filter[3] + window[4] * filter[4] + window[5] * filter[5]) +                                          \
     (window[6] * filter[6] + window[7] * filter[7] + window[8] * filter[8]))

static void depthwise(const Step *s, int64_t n, REAL *result) {
    const REAL *const f = s->filters;
    const int64_t C = s->channels, image = s->height * s->width * C, sliding = s->stride == 1 ? C / LANES * LANES : 0;
    for (int64_t b = 0; b < sliding; b += LANES) {
        vector filter[9];
        for (int t = 0; t < 9; t++) filter[t] = *(const vector *)(f + t * C + b);
        const REAL *const map = s->source + n * image + b;
        REAL *const r = result + n * image + b;
        SLIDE(map, s->height, s->width, C, *(vector *)(r + pixel * C) = NINE_OF(window, filter);)
    }
    if (sliding == C) return;
#define TERM(t) AT(tap[t] + sliding) * AT(f + t * C + sliding)
    EACH_PIXEL(s, n, s->source, s->zeros, {
        REAL *const r = result + point * C + sliding;
        ALONG(C - sliding, AT(r) = NINE(TERM);)
    })
#undef TERM
}

/* d_result of image n alone: [its pixels][channels] */
static void depthwise_back(const Step *s, int64_t n, const REAL *d_result) {
    const int64_t C = s->channels, first = n * s->out_height * s->out_width, image = s->height * s->width * C;
    const int64_t whole = C / LANES * LANES, sliding = s->stride == 1 ? whole : 0;
    const REAL *const f = s->filters;
    for (int64_t b = 0; b < whole; b += LANES) { /* nine sums of one block of channels stay in registers */
        vector sum[9];
        memset(sum, 0, sizeof sum);
        if (sliding) {
            SLIDE(s->source + n * image + b, s->height, s->width, C, {
                const vector d = *(const vector *)(d_result + pixel * C + b);
                for (int t = 0; t < 9; t++) sum[t] += d * window[t];
            })
        } else {
            EACH_PIXEL(s, n, s->source + b, s->zeros, {
                const vector d = *(const vector *)(d_result + (point - first) * C + b);
                for (int t = 0; t < 9; t++) sum[t] += d * *(const vector *)tap[t];
            })
        }
        for (int t = 0; t < 9; t++) *(vector *)(s->d_filters + t * C + b) += sum[t];
    }
    if (whole < C) {
        EACH_PIXEL(s, n, s->source, s->zeros, {
            for (int t = 0; t < 9; t++)
                for (int64_t c = whole; c < C; c++) s->d_filters[t * C + c] += d_result[(point - first) * C + c] * tap[t][c];
        })
    }
    if (s->d_source == NULL) return;
    for (int64_t b = 0; b < sliding; b += LANES) { /* the way back is the same with the filters turned around */
        vector turned[9];
        for (int t = 0; t < 9; t++) turned[t] = *(const vector *)(f + (8 - t) * C + b);
        REAL *const r = s->d_source + n * image + b;
        SLIDE(d_result + b, s->height, s->width, C, *(vector *)(r + pixel * C) += NINE_OF(window, turned);)
    }
    if (sliding == C) return;
#define TERM(t) AT(d[t]) * AT(f + t * C + sliding)
    EACH_SOURCE_PIXEL(s, n, {
        const REAL *d[9];
        for (int t = 0; t < 9; t++) d[t] = from[t] < 0 ? s->zeros : d_result + from[t] * C + sliding;
        REAL *const r = s->d_source + point * C + sliding;
        ALONG(C - sliding, AT(r) += NINE(TERM);)
    })
#undef TERM
}

static void maximum(const Step *s, int64_t n) {
    const int64_t C = s->channels;
    EACH_PIXEL(s, n, s->source, s->lowest, {
        REAL *const r = s->target + point * s->row;
        uint8_t *const winner = s->winners + point * C;
        int64_t c = 0;
        for (; c + LANES <= C; c += LANES) {
            vector best = *(const vector *)(tap[0] + c);
            mask which = {0};
            for (int t = 1; t < 9; t++) {
                const vector here = *(const vector *)(tap[t] + c);
                const mask more = ~(here <= best); /* of equals the first, as PyTorch has it; NaN is more */
                which = (which & ~more) | (((mask){0} + t) & more);
                best = (vector)(((mask)best & ~more) | ((mask)here & more));
            }
            *(vector *)(r + c) = best;
            *(bytes *)(winner + c) = __builtin_convertvector(which, bytes);
        }
        for (; c < C; c++) {
            REAL best = tap[0][c];
            uint8_t which = 0;
            for (uint8_t t = 1; t < 9; t++)
                if (!(tap[t][c] <= best)) {
                    best = tap[t][c];
                    which = t;
                }
            r[c] = best;
            winner[c] = which;
        }
    })
}

static void maximum_back(const Step *s, int64_t n) {
    const int64_t C = s->channels, first = n * s->out_height * s->out_width;
    EACH_SOURCE_PIXEL(s, n, {
        REAL *const r = s->d_source + point * C;
        int64_t c = 0;
        for (; c + LANES <= C; c += LANES) {
            vector sum = *(vector *)(r + c);
            for (int t = 0; t < 9; t++) {
                if (from[t] < 0) continue;
                const bytes winner = *(const bytes *)(s->winners + (first + from[t]) * C + c);
                const mask won = __builtin_convertvector(winner, mask) == t;
                sum += (vector)(*(const mask *)(s->d_target + (first + from[t]) * s->row + c) & won);
            }
            *(vector *)(r + c) = sum;
        }
        for (; c < C; c++)
            for (int t = 0; t < 9; t++)
                if (from[t] >= 0 && s->winners[(first + from[t]) * C + c] == t)
                    r[c] += s->d_target[(first + from[t]) * s->row + c];
    })
}

/* 1 / pixels of the image in the window around (h, w) */
static REAL share(const Step *s, int64_t h, int64_t w) {
    int64_t rows = 1 + (h > 0) + (h + 1 < s->height), columns = 1 + (w > 0) + (w + 1 < s->width);
    return (REAL)1 / (REAL)(rows * columns);
}

static void average(const Step *s, int64_t n) {
#define TERM(t) AT(tap[t])
    EACH_PIXEL(s, n, s->source, s->zeros, {
        REAL *const r = s->target + point * s->row;
        const REAL part = share(s, h, w);
        ALONG(s->channels, AT(r) = part * NINE(TERM);)
    })
#undef TERM
}

static void average_back(const Step *s, int64_t n) {
    const int64_t C = s->channels, first = n * s->out_height * s->out_width;
#define TERM(t) part[t] * AT(d[t])
    EACH_SOURCE_PIXEL(s, n, {
        const REAL *d[9];
        REAL part[9];
        for (int t = 0; t < 9; t++) {
            d[t] = from[t] < 0 ? s->zeros : s->d_target + (first + from[t]) * s->row;
            part[t] = share(s, h + 1 - t / 3, w + 1 - t % 3);
        }
        REAL *const r = s->d_source + point * C;
        ALONG(C, AT(r) += NINE(TERM);)
    })
#undef TERM
}

/* ---- normalisation and ReLU -------------------------------------------------------------------------------------- */
/* Takes the rows of image n into the mean and the sum of squared distances from it (`totals`). */
static void take_in(const Step *s, int64_t n) {
    const int64_t N = s->outputs, count = s->out_height * s->out_width, before = n * count;
    const REAL *const rows = s->raw + before * N;
    double *const mean = s->totals, *const squares = s->totals + N;
    const double all = (double)(before + count), new_share = (double)count / all;
    REAL sums[LANES], distances[LANES];
    for (int64_t c = 0; c < N; c += LANES) {
        const int64_t block = N - c < LANES ? N - c : LANES;
        if (block == LANES) {
            vector a = {0}, b = {0};
            int64_t q = 0;
            for (; q + 1 < count; q += 2) {
                a += *(const vector *)(rows + q * N + c);
                b += *(const vector *)(rows + (q + 1) * N + c);
            }
            if (q < count) a += *(const vector *)(rows + q * N + c);
            *(vector *)sums = a + b;
            const vector middle = (a + b) / (REAL)count;
            a = b = (vector){0};
            for (q = 0; q + 1 < count; q += 2) {
                const vector x = *(const vector *)(rows + q * N + c) - middle;
                const vector y = *(const vector *)(rows + (q + 1) * N + c) - middle;
                a += x * x;
                b += y * y;
            }
            if (q < count) {
                const vector x = *(const vector *)(rows + q * N + c) - middle;
                a += x * x;
            }
            *(vector *)distances = a + b;
        } else {
            for (int64_t l = 0; l < block; l++) {
                REAL sum = 0, distance = 0;
                for (int64_t q = 0; q < count; q++) sum += rows[q * N + c + l];
                const REAL middle = sum / (REAL)count;
                for (int64_t q = 0; q < count; q++)
                    distance += (rows[q * N + c + l] - middle) * (rows[q * N + c + l] - middle);
                sums[l] = sum;
                distances[l] = distance;
            }
        }
        for (int64_t l = 0; l < block; l++) { /* Chan, Golub, LeVeque 1979: two parts' moments make the whole's */
            const double away = (double)sums[l] / (double)count - mean[c + l];
            mean[c + l] += away * new_share;
            squares[c + l] += (double)distances[l] + away * away * new_share * (double)before;
        }
    }
}

/* From what was taken in (training), or from the running statistics, to `statistics`. */
static void conclude(const Step *s, int training) {
    const int64_t N = s->outputs;
    const double *const totals = s->totals;
    const double points = (double)(s->images * s->out_height * s->out_width);
    for (int64_t c = 0; c < N; c++) {
        if (!training) {
            s->statistics[c] = s->running_mean[c];
            s->statistics[N + c] = (REAL)(1.0 / sqrt((double)s->running_variance[c] + (double)EPSILON));
            continue;
        }
        const double mean = totals[c], variance = totals[N + c] / points;
        const double unbiased = points > 1 ? totals[N + c] / (points - 1) : variance;
        s->statistics[c] = (REAL)mean;
        s->statistics[N + c] = (REAL)(1.0 / sqrt(variance + (double)EPSILON));
        s->running_mean[c] += MOMENTUM * ((REAL)mean - s->running_mean[c]);
        s->running_variance[c] += MOMENTUM * ((REAL)unbiased - s->running_variance[c]);
    }
}

/* target = ReLU(scale * (raw - mean) / deviation + shift), for image n */
static void normalise(const Step *s, int64_t n) {
    const int64_t N = s->outputs, pixels = s->out_height * s->out_width, first = n * pixels;
    ALONG(N, {
        const real mean = AT(s->statistics), inverse = AT(s->statistics + N), scale = AT(s->scale), shift = AT(s->shift);
        const REAL *y = s->raw + first * N;
        REAL *r = s->target + first * s->row;
        for (int64_t p = 0; p < pixels; p++, y += N, r += s->row) AT(r) = RECTIFIED(scale * ((AT(y) - mean) * inverse) + shift);
    })
}

/* Adds image n to what the gradients of shift and scale are made of (`totals`). */
static void normalise_back_sums(const Step *s, int64_t n) {
    const int64_t N = s->outputs, pixels = s->out_height * s->out_width, first = n * pixels;
    for (int64_t b = 0; b < N; b += LANES) {
        const int64_t block = N - b < LANES ? N - b : LANES;
        REAL shifts[LANES], scales[LANES];
        const REAL *const mean = s->statistics + b, *const inverse = mean + N;
        const REAL *const scale = s->scale + b, *const shift = s->shift + b;
        if (block == LANES) {
            typedef vector real;
            const int64_t c = 0;
            vector sum = {0}, normal_sum = {0};
            for (int64_t p = first; p < first + pixels; p++) {
                const vector normal = (AT(s->raw + p * N + b) - AT(mean)) * AT(inverse);
                const vector d = PASSED(AT(s->d_target + p * s->row + b), AT(scale) * normal + AT(shift));
                sum += d;
                normal_sum += d * normal;
            }
            *(vector *)shifts = sum;
            *(vector *)scales = normal_sum;
        } else {
            for (int64_t l = 0; l < block; l++) {
                shifts[l] = scales[l] = 0;
                for (int64_t p = first; p < first + pixels; p++) {
                    const REAL normal = (s->raw[p * N + b + l] - mean[l]) * inverse[l];
                    const REAL d = passed_number(s->d_target[p * s->row + b + l], scale[l] * normal + shift[l]);
                    shifts[l] += d;
                    scales[l] += d * normal;
                }
            }
        }
        for (int64_t l = 0; l < block; l++) {
            s->totals[b + l] += (double)shifts[l];
            s->totals[N + b + l] += (double)scales[l];
        }
    }
}

/* Gradients of shift and scale, and their means over all points. */
static void conclude_back(const Step *s) {
    const int64_t N = s->outputs;
    const double points = (double)(s->images * s->out_height * s->out_width);
    for (int64_t c = 0; c < N; c++) {
        s->d_shift[c] += (REAL)s->totals[c];
        s->d_scale[c] += (REAL)s->totals[N + c];
        s->sums[c] = (REAL)(s->totals[c] / points);
        s->sums[N + c] = (REAL)(s->totals[N + c] / points);
    }
}

/* d raw of image n */
static void normalise_back(const Step *s, int64_t n) {
    const int64_t N = s->outputs, pixels = s->out_height * s->out_width, first = n * pixels;
    ALONG(N, {
        const real mean = AT(s->statistics), inverse = AT(s->statistics + N), scale = AT(s->scale), shift = AT(s->shift);
        const real by_shift = AT(s->sums), by_scale = AT(s->sums + N), factor = scale * inverse;
        const REAL *y = s->raw + first * N, *d = s->d_target + first * s->row;
        REAL *r = s->d_raw;
        for (int64_t p = 0; p < pixels; p++, y += N, d += s->row, r += N) {
            const real normal = (AT(y) - mean) * inverse;
            AT(r) = factor * (PASSED(AT(d), scale * normal + shift) - by_shift - normal * by_scale);
        }
    })
}

/* ---- the ends of the network ------------------------------------------------------------------------------------- */
static void stem_windows(const Step *s, int64_t n) { /* middle: [P][9 * channels], the nine pixels around each */
    const int64_t C = s->channels;
    EACH_PIXEL(s, n, s->source, s->zeros, {
        for (int64_t t = 0; t < 9; t++)
            for (int64_t c = 0; c < C; c++) s->middle[(point * 9 + t) * C + c] = tap[t][c];
    })
}

/* Mean over the pixels (middle), scores (raw), and the mean cross-entropy with its gradient in place of the scores. */
static void head(const Step *s, int training) {
    const int64_t C = s->channels, N = s->outputs, pixels = s->height * s->width;
    for (int64_t n = 0; n < s->images; n++) {
        REAL *restrict m = s->middle + n * C;
        memset(m, 0, (size_t)C * sizeof(REAL));
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++) m[c] += s->source[(n * pixels + p) * C + c];
        for (int64_t c = 0; c < C; c++) m[c] /= (REAL)pixels;
        for (int64_t o = 0; o < N; o++) s->raw[n * N + o] = s->shift[o];
    }
    add_product(s->images, N, C, s->middle, C, 1, s->weights, N, s->raw, N);
    if (!training) return;
    double loss = 0;
    for (int64_t n = 0; n < s->images; n++) {
        REAL *restrict score = s->raw + n * N;
        REAL most = score[0], sum = 0;
        for (int64_t o = 1; o < N; o++) most = score[o] > most ? score[o] : most;
        for (int64_t o = 0; o < N; o++) sum += (REAL)exp((double)(score[o] - most));
        loss += log((double)sum) + (double)(most - score[s->labels[n]]);
        for (int64_t o = 0; o < N; o++)
            score[o] = ((REAL)exp((double)(score[o] - most)) / sum - (o == s->labels[n])) / (REAL)s->images;
    }
    *s->loss = (REAL)(loss / (double)s->images);
}

static void head_back(const Step *s) {
    const int64_t C = s->channels, N = s->outputs, pixels = s->height * s->width;
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t o = 0; o < N; o++) s->d_shift[o] += s->raw[n * N + o];
    memset(s->d_middle, 0, (size_t)(s->images * C) * sizeof(REAL));
    project_back(s->images, C, N, s->middle, s->d_middle, s->weights, s->d_weights, s->raw, s->room);
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < C; c++)
                s->d_source[(n * pixels + p) * C + c] += s->d_middle[n * C + c] / (REAL)pixels;
}

/* ---- all nodes --------------------------------------------------------------------------------------------------- */
int64_t step_size(void) { return (int64_t)sizeof(Step); }
int64_t node_size(void) { return (int64_t)sizeof(Node); }

/* Channels of the points of image n from one map to another, or their gradients back. */
static void copy(const Step *s, int64_t n) {
    for (int64_t p = n * s->height * s->width; p < (n + 1) * s->height * s->width; p++) {
        const REAL *const from = s->source + p * s->source_row;
        REAL *const to = s->target + p * s->row;
        ALONG(s->channels, AT(to) = AT(from);)
    }
}

static void copy_back(const Step *s, int64_t n) {
    for (int64_t p = n * s->height * s->width; p < (n + 1) * s->height * s->width; p++) {
        REAL *const to = s->d_source + p * s->source_row;
        const REAL *const from = s->d_target + p * s->row;
        ALONG(s->channels, AT(to) += AT(from);)
    }
}

/* One step for image n: what goes straight to the target, or what is to be normalised there. */
static void run(const Step *s, int64_t n) {
    const int64_t pixels = s->out_height * s->out_width, first = n * pixels;
    REAL *const raw = s->raw + first * s->outputs;
    switch (s->kind) {
        case COPY: copy(s, n); break;
        case MAXIMUM: maximum(s, n); break;
        case AVERAGE: average(s, n); break;
        case CONVOLUTION: project(pixels, s->channels, s->outputs, s->source + first * s->channels, s->weights, raw); break;
        case DEPTHWISE: depthwise(s, n, s->raw); break;
        case SEPARABLE:
            depthwise(s, n, s->middle);
            project(pixels, s->channels, s->outputs, s->middle + first * s->channels, s->weights, raw);
            break;
        case STEM:
            stem_windows(s, n);
            project(pixels, 9 * s->channels, s->outputs, s->middle + first * 9 * s->channels, s->weights, raw);
            break;
    }
}

/* Adds the gradients of one step for image n. */
static void run_back(const Step *s, int64_t n) {
    const int64_t pixels = s->out_height * s->out_width, first = n * pixels, C = s->channels, N = s->outputs;
    REAL *const d_source = s->d_source == NULL ? NULL : s->d_source + first * C;
    if (s->scale != NULL) normalise_back(s, n);
    switch (s->kind) {
        case COPY: copy_back(s, n); break;
        case MAXIMUM: maximum_back(s, n); break;
        case AVERAGE: average_back(s, n); break;
        case CONVOLUTION:
            project_back(pixels, C, N, s->source + first * C, d_source, s->weights, s->d_weights, s->d_raw, s->room);
            break;
        case DEPTHWISE: depthwise_back(s, n, s->d_raw); break;
        case SEPARABLE:
            memset(s->d_middle, 0, (size_t)(pixels * C) * sizeof(REAL));
            project_back(pixels, C, N, s->middle + first * C, s->d_middle, s->weights, s->d_weights, s->d_raw, s->room);
            depthwise_back(s, n, s->d_middle);
            break;
        case STEM:
            project_back(pixels, 9 * C, N, s->middle + first * 9 * C, NULL, s->weights, s->d_weights, s->d_raw, s->room);
            break;
    }
}

void forward(const Node *nodes, int64_t count, const Step *steps, const int64_t *in, int training) {
    for (const Node *node = nodes; node < nodes + count; node++) {
        const Step *const outs = steps + node->first_out, *const end = outs + node->outs;
        const int64_t *const ins = in + node->first_in, *const last = ins + node->ins;
        for (const Step *s = outs; s < end; s++)
            if (s->totals != NULL) memset(s->totals, 0, 2 * (size_t)s->outputs * sizeof(double));
        for (int64_t n = 0; n < node->images; n++) {
            for (const int64_t *e = ins; e < last; e++) normalise(steps + *e, n);
            for (const Step *s = outs; s < end; s++) {
                run(s, n);
                if (training && s->totals != NULL) take_in(s, n);
            }
        }
        for (const Step *s = outs; s < end; s++)
            if (s->kind == HEAD) head(s, training);
            else if (s->totals != NULL) conclude(s, training);
    }
}

/* Adds the gradients of the loss of the last training forward to those of all parameters. */
void backward(const Node *nodes, int64_t count, const Step *steps, const int64_t *in) {
    for (const Node *node = nodes + count - 1; node >= nodes; node--) {
        const Step *const outs = steps + node->first_out, *const end = outs + node->outs;
        const int64_t *const ins = in + node->first_in, *const last = ins + node->ins;
        const size_t image = (size_t)(node->pixels * node->channels);
        for (const int64_t *e = ins; e < last; e++)
            memset(steps[*e].totals, 0, 2 * (size_t)steps[*e].outputs * sizeof(double));
        const int ends = outs < end && outs->kind == HEAD;
        if (ends) {
            memset(node->d_map, 0, (size_t)node->images * image * sizeof(REAL));
            head_back(outs);
        }
        for (int64_t n = 0; n < node->images; n++) {
            if (!ends) {
                if (node->d_map != NULL) memset(node->d_map + (size_t)n * image, 0, image * sizeof(REAL));
                for (const Step *s = end - 1; s >= outs; s--) run_back(s, n);
            }
            for (const int64_t *e = ins; e < last; e++) normalise_back_sums(steps + *e, n);
        }
        for (const int64_t *e = ins; e < last; e++) conclude_back(steps + *e);
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
