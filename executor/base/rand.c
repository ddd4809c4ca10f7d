#include "executor/base/rand.h"

#include <math.h>

__extension__ typedef unsigned __int128 wide;

static void philox_round(uint32_t c[4], const uint32_t k[2])
{
    uint64_t p0 = (uint64_t)0xD2511F53U * c[0];
    uint64_t p1 = (uint64_t)0xCD9E8D57U * c[2];
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k[0];
    uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k[1];
    c[1] = (uint32_t)p1;
    c[3] = (uint32_t)p0;
    c[0] = n0;
    c[2] = n2;
}

struct ft_rand ft_rand_at(uint64_t seed, enum ft_rand_use use, uint64_t where)
{
    struct ft_rand r = {.seed = seed, .stream = (uint64_t)use << 56 | (where & 0xffffffffffffffULL)};
    return r;
}

void ft_rand_block(struct ft_rand r, uint64_t index, uint32_t out[4])
{
    uint32_t key[2] = {(uint32_t)r.seed, (uint32_t)(r.seed >> 32)};
    out[0] = (uint32_t)index;
    out[1] = (uint32_t)(index >> 32);
    out[2] = (uint32_t)r.stream;
    out[3] = (uint32_t)(r.stream >> 32);
    for (int i = 0; i < 10; i++) {
        philox_round(out, key);
        key[0] += 0x9E3779B9U;
        key[1] += 0xBB67AE85U;
    }
}

uint32_t ft_rand_u32(struct ft_rand r, uint64_t index)
{
    uint32_t out[4];
    ft_rand_block(r, index / 4, out);
    return out[index % 4];
}

float ft_rand_float(struct ft_rand r, uint64_t index)
{
    return (float)(ft_rand_u32(r, index) >> 8) * 0x1p-24F;
}

uint64_t ft_rand_below(struct ft_rand r, uint64_t index, uint64_t n)
{
    uint32_t w[4];
    ft_rand_block(r, index, w);
    uint64_t x = (uint64_t)w[1] << 32 | w[0];
    return (uint64_t)(((wide)x * n) >> 64);
}

double ft_rand_normal(struct ft_rand r, uint64_t index)
{
    uint32_t w[4];
    ft_rand_block(r, index, w);
    /* (0, 1]: the logarithm must be finite. */
    double u = ((double)w[0] * 0x1p32 + (double)w[1] + 1.0) * 0x1p-64;
    double v = ((double)w[2] * 0x1p32 + (double)w[3]) * 0x1p-64;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

void ft_rand_shuffle(struct ft_rand r, uint32_t *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        size_t j = (size_t)ft_rand_below(r, i, i);
        uint32_t t = items[i - 1];
        items[i - 1] = items[j];
        items[j] = t;
    }
}
