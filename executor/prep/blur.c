#include <assert.h>
#include <math.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/prep/pixels.h"

/* Two passes of the one-dimensional kernel: the two-dimensional one is their outer product. Rows are blurred
 * along x into floats, those along y back into bytes. */

enum { LANES = 16 };

struct blur {
    int64_t reach;  /* kernel = 2 * reach + 1 */
    float *weights; /* (kernel) */
    float *edged;   /* one row with its mirrored edges, as floats */
    float *between; /* (height, width, channels) */
};

/* Position i of a line of n, mirrored at both ends without repeating the end. */
static int64_t mirrored(int64_t i, int64_t n)
{
    i = i < 0 ? -i : i;
    return i < n ? i : 2 * (n - 1) - i;
}

static void blur_release(struct blur *b)
{
    ft_free(b->weights);
    ft_free(b->edged);
    ft_free(b->between);
}

static enum ft_status blur_init(const struct ft_pixels *p, int64_t reach, double sigma, struct blur *b,
                                struct ft_err *err)
{
    enum ft_status st = FT_OK;
    double sum = 0;
    *b = (struct blur){.reach = reach};
    size_t kernel = (size_t)(2 * reach + 1);
    size_t row = ((size_t)p->width + kernel) * (size_t)p->channels + LANES;
    FT_TRY(ft_new(kernel, sizeof *b->weights, &b->weights, err));
    FT_TRY(ft_new(row, sizeof *b->edged, &b->edged, err));
    FT_TRY(ft_new(ft_pixels_bytes(p), sizeof *b->between, &b->between, err));
    for (int64_t i = -reach; i <= reach; i++) {
        sum += exp(-0.5 * ((double)i / sigma) * ((double)i / sigma));
    }
    for (int64_t i = -reach; i <= reach; i++) {
        b->weights[i + reach] = (float)(exp(-0.5 * ((double)i / sigma) * ((double)i / sigma)) / sum);
    }
done:
    if (st != FT_OK) {
        blur_release(b);
    }
    return st;
}

static void along_x(const struct ft_pixels *p, struct blur *b)
{
    int64_t c = p->channels;
    int64_t row = p->width * c;
    for (int64_t y = 0; y < p->height; y++) {
        const uint8_t *from = p->data + y * row;
        float *to = b->between + y * row;
        for (int64_t x = -b->reach; x < p->width + b->reach; x++) {
            for (int64_t k = 0; k < c; k++) {
                b->edged[(x + b->reach) * c + k] = (float)from[mirrored(x, p->width) * c + k];
            }
        }
        for (int64_t x = 0; x < row; x += LANES) {
            float sums[LANES] = {0};
            for (int64_t i = 0; i <= 2 * b->reach; i++) {
                for (int j = 0; j < LANES; j++) {
                    sums[j] += b->weights[i] * b->edged[x + i * c + j];
                }
            }
            int64_t n = row - x < LANES ? row - x : LANES;
            memcpy(to + x, sums, (size_t)n * sizeof *sums);
        }
    }
}

static uint8_t rounded(float v)
{
    float r = nearbyintf(v); /* half to even, as torch.round() */
    return r <= 0.0F ? 0 : r >= 255.0F ? 255 : (uint8_t)r;
}

static void along_y(struct ft_pixels *p, const struct blur *b)
{
    int64_t row = p->width * p->channels;
    for (int64_t y = 0; y < p->height; y++) {
        uint8_t *to = p->data + y * row;
        for (int64_t x = 0; x < row; x += LANES) {
            float sums[LANES] = {0};
            int n = row - x < LANES ? (int)(row - x) : LANES;
            for (int64_t i = -b->reach; i <= b->reach; i++) {
                const float *from = b->between + mirrored(y + i, p->height) * row + x;
                float w = b->weights[i + b->reach];
                for (int j = 0; j < n; j++) {
                    sums[j] += w * from[j];
                }
            }
            for (int j = 0; j < n; j++) {
                to[x + j] = rounded(sums[j]);
            }
        }
    }
}

enum ft_status ft_pixels_blur(struct ft_pixels *pixels, int64_t kernel, double sigma, struct ft_err *err)
{
    struct blur b;
    int64_t shorter = pixels->width < pixels->height ? pixels->width : pixels->height;
    int64_t reach = kernel / 2 < shorter - 1 ? kernel / 2 : shorter - 1;
    assert(kernel % 2 == 1 && sigma > 0);
    if (reach == 0) {
        return FT_OK;
    }
    FT_RETURN_IF_FAILED(blur_init(pixels, reach, sigma, &b, err));
    along_x(pixels, &b);
    along_y(pixels, &b);
    blur_release(&b);
    return FT_OK;
}
