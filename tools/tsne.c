#include "tools/tsne.h"

#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/rand.h"

enum { STEPS = 500, EXAGGERATED = 125, BISECTIONS = 50 };
static const double perplexity = 30.0;
static const float exaggeration = 12.0F;

struct layout {
    size_t count;
    float *p; /* (count, count): how likely two rows are neighbours; sums to 1 */
    float *q; /* (count, count): 1 / (1 + distance^2) in the plane */
    float *y; /* (count, 2), and likewise: */
    float *speed;
    float *gain;
};

static enum ft_status distances(const float *rows, int64_t dim, struct layout *l, struct ft_err *err)
{
    size_t n = l->count;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            float dot = 0.0F;
            for (int64_t k = 0; k < dim; k++) {
                dot += rows[(int64_t)i * dim + k] * rows[(int64_t)j * dim + k];
            }
            l->p[i * n + j] = dot;
        }
        if (!(l->p[i * n + i] > 0.0F)) {
            return FT_FAIL(err, INVALID, "row %zu has no direction", i);
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            float cosine = l->p[i * n + j] / sqrtf(l->p[i * n + i] * l->p[j * n + j]);
            l->p[i * n + j] = l->p[j * n + i] = fmaxf(2.0F - 2.0F * cosine, 0.0F);
        }
    }
    return FT_OK;
}

/* Row i of p, distances so far, becomes the chances of a Gaussian as wide as gives the perplexity. */
static void chances(float *d, size_t n, size_t i)
{
    double beta = 1.0;
    double low = 0.0;
    double high = INFINITY;
    double sum = 0.0;
    double nearest = INFINITY;
    for (size_t j = 0; j < n; j++) {
        nearest = j != i && (double)d[j] < nearest ? (double)d[j] : nearest;
    }
    for (int t = 0; t < BISECTIONS; t++) {
        double weighted = 0.0;
        sum = 0.0;
        for (size_t j = 0; j < n; j++) {
            double away = (double)d[j] - nearest;
            double w = j == i ? 0.0 : exp(-beta * away);
            sum += w;
            weighted += w * away;
        }
        double entropy = log(sum) + beta * weighted / sum;
        if (entropy > log(perplexity)) {
            low = beta;
            beta = isinf(high) ? 2.0 * beta : (beta + high) / 2.0;
        } else {
            high = beta;
            beta = (beta + low) / 2.0;
        }
    }
    sum = 0.0;
    for (size_t j = 0; j < n; j++) {
        d[j] = j == i ? 0.0F : (float)exp(-beta * ((double)d[j] - nearest));
        sum += (double)d[j];
    }
    for (size_t j = 0; j < n; j++) {
        d[j] = (float)((double)d[j] / sum);
    }
}

static void neighbours(struct layout *l)
{
    size_t n = l->count;
    for (size_t i = 0; i < n; i++) {
        chances(l->p + i * n, n, i);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            float both = (l->p[i * n + j] + l->p[j * n + i]) / (2.0F * (float)n);
            l->p[i * n + j] = l->p[j * n + i] = fmaxf(both, 1e-12F);
        }
    }
}

static double near_in_plane(struct layout *l)
{
    size_t n = l->count;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        float row = 0.0F;
        for (size_t j = 0; j < n; j++) {
            float dx = l->y[2 * i] - l->y[2 * j];
            float dy = l->y[2 * i + 1] - l->y[2 * j + 1];
            l->q[i * n + j] = 1.0F / (1.0F + dx * dx + dy * dy);
            row += l->q[i * n + j];
        }
        sum += (double)row - 1.0; /* not itself */
    }
    return sum;
}

static void move_row(struct layout *l, size_t i, const float g[2], float momentum)
{
    float rate = fmaxf((float)l->count / exaggeration / 4.0F, 50.0F);
    for (size_t k = 2 * i; k < 2 * i + 2; k++) {
        float slope = g[k - 2 * i];
        l->gain[k] =
            fmaxf((slope > 0.0F) == (l->speed[k] > 0.0F) ? l->gain[k] * 0.8F : l->gain[k] + 0.2F, 0.01F);
        l->speed[k] = momentum * l->speed[k] - rate * l->gain[k] * slope;
    }
}

static void step(struct layout *l, int t)
{
    size_t n = l->count;
    float more = t < EXAGGERATED ? exaggeration : 1.0F;
    float sum = (float)near_in_plane(l);
    for (size_t i = 0; i < n; i++) {
        float g[2] = {0.0F, 0.0F};
        for (size_t j = 0; j < n; j++) {
            float q = l->q[i * n + j];
            float pull = 4.0F * (more * l->p[i * n + j] - q / sum) * q;
            g[0] += pull * (l->y[2 * i] - l->y[2 * j]);
            g[1] += pull * (l->y[2 * i + 1] - l->y[2 * j + 1]);
        }
        move_row(l, i, g, t < EXAGGERATED ? 0.5F : 0.8F);
    }
    for (size_t k = 0; k < 2 * n; k++) {
        l->y[k] += l->speed[k];
    }
}

enum ft_status tsne(const float *rows, size_t count, int64_t dim, float *xy, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct layout l = {.count = count, .y = xy};
    if (count < 100 || count > TSNE_ROWS_MAX) {
        return FT_FAIL(err, INVALID, "%zu rows: 100 to %d can be laid out", count, TSNE_ROWS_MAX);
    }
    FT_TRY(ft_new(count * count, sizeof *l.p, &l.p, err));
    FT_TRY(ft_new(count * count, sizeof *l.q, &l.q, err));
    FT_TRY(ft_new(2 * count, sizeof *l.speed, &l.speed, err));
    FT_TRY(ft_new(2 * count, sizeof *l.gain, &l.gain, err));
    FT_TRY(distances(rows, dim, &l, err));
    neighbours(&l);
    for (size_t k = 0; k < 2 * count; k++) {
        xy[k] = 1e-4F * (float)ft_rand_normal(ft_rand_at(1, FT_RAND_INIT, 0), k);
        l.speed[k] = 0.0F;
        l.gain[k] = 1.0F;
    }
    for (int t = 0; t < STEPS; t++) {
        step(&l, t);
    }
done:
    ft_free(l.gain);
    ft_free(l.speed);
    ft_free(l.q);
    ft_free(l.p);
    return st;
}
