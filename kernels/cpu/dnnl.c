#include "kernels/cpu/dnnl.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"

enum ft_status ft_dnnl_check(dnnl_status_t status, const char *what, struct ft_err *err)
{
    switch (status) {
    case dnnl_success:
        return FT_OK;
    case dnnl_out_of_memory:
        return FT_FAIL(err, NOMEM, "oneDNN: %s: out of memory", what);
    case dnnl_unimplemented:
        return FT_FAIL(err, UNSUPPORTED, "oneDNN has no implementation of %s", what);
    case dnnl_invalid_arguments:
    case dnnl_iterator_ends:
    case dnnl_runtime_error:
    case dnnl_not_required:
        break;
    }
    return FT_FAIL(err, INTERNAL, "oneDNN: %s: status %d", what, (int)status);
}

enum ft_status ft_dnnl_open(struct ft_cpu *cpu, struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_dnnl_check(dnnl_engine_create(&cpu->engine, dnnl_cpu, 0), "an engine", err));
    return ft_dnnl_check(dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags), "a stream",
                         err);
}

void ft_dnnl_close(struct ft_cpu *cpu)
{
    if (cpu->stream != NULL) {
        (void)dnnl_stream_destroy(cpu->stream);
    }
    if (cpu->engine != NULL) {
        (void)dnnl_engine_destroy(cpu->engine);
    }
    cpu->stream = NULL;
    cpu->engine = NULL;
}

/* oneDNN 2.6 has bf16 for processors with AVX-512 (F, BW, VL, DQ): with AVX512_BF16 or AMX they multiply it,
 * without them oneDNN takes several instructions for each. The bits of an isa contain those of the smaller
 * ones; DNNL_MAX_CPU_ISA may have taken some away. */
static bool computes(dnnl_cpu_isa_t isa)
{
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

enum ft_status ft_dnnl_check_bf16(const struct ft_device *device, struct ft_err *err)
{
    (void)device;
    if (computes(dnnl_cpu_isa_avx512_core)) {
        return FT_OK;
    }
    return FT_FAIL(
        err, UNAVAILABLE,
        "precision bf16: this processor has no AVX-512 (F, BW, VL and DQ), which computing in bf16 "
        "takes; use f32, or bf16-emulated, which is slower than f32 and only good for looking at "
        "what bf16 would give");
}

const char *ft_dnnl_bf16_note(const struct ft_device *device)
{
    (void)device;
    return computes(dnnl_cpu_isa_avx512_core_bf16)
               ? NULL
               : "precision bf16 halves the memory of activations, but is slower than f32 here: this "
                 "processor "
                 "has AVX-512, but neither AVX512_BF16 nor AMX, so each product takes several instructions";
}

enum ft_status ft_dnnl_check_loop(const_dnnl_primitive_desc_t pd, struct ft_err *err)
{
    const char *name = "";
    FT_RETURN_IF_FAILED(ft_dnnl_check(
        dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name), "a name", err));
    if (strstr(name, "ref") != NULL) {
        return FT_FAIL(err, UNSUPPORTED, "oneDNN has but a plain loop (%s) for it", name);
    }
    return FT_OK;
}

dnnl_data_type_t ft_dnnl_type(const struct ft_type *t)
{
    assert(t->dtype == FT_F32 || t->dtype == FT_BF16);
    return t->dtype == FT_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* y = act(sum + residual) */
static dnnl_status_t append_epilogue(const struct ft_attrs *a, const dnnl_memory_desc_t *y,
                                     dnnl_post_ops_t ops)
{
    static const dnnl_alg_kind_t kinds[FT_ACT_COUNT] = {
        [FT_ACT_RELU] = dnnl_eltwise_relu,
        [FT_ACT_LEAKY_RELU] = dnnl_eltwise_relu,
        [FT_ACT_CLIP] = dnnl_eltwise_clip,
        [FT_ACT_SIGMOID] = dnnl_eltwise_logistic,
        [FT_ACT_TANH] = dnnl_eltwise_tanh,
        [FT_ACT_GELU] = dnnl_eltwise_gelu_erf,
        [FT_ACT_GELU_TANH] = dnnl_eltwise_gelu_tanh,
        [FT_ACT_SILU] = dnnl_eltwise_swish,
        [FT_ACT_HARD_SWISH] = dnnl_eltwise_hardswish,
    };
    dnnl_status_t status =
        a->residual != 0 ? dnnl_post_ops_append_binary(ops, dnnl_binary_add, y) : dnnl_success;
    if (status == dnnl_success && a->act != FT_ACT_NONE) {
        status = dnnl_post_ops_append_eltwise(ops, 1.0F, kinds[a->act], a->act_a, a->act_b);
    }
    return status;
}

static dnnl_status_t set_epilogue(const struct ft_attrs *a, const dnnl_memory_desc_t *y,
                                  dnnl_primitive_attr_t attr)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_post_ops_create(&ops);
    if (status != dnnl_success) {
        return status;
    }
    status = append_epilogue(a, y, ops);
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_post_ops(attr, ops); /* copies */
    }
    (void)dnnl_post_ops_destroy(ops);
    return status;
}

enum ft_status ft_dnnl_attr(float output_scale, const struct ft_attrs *epilogue, const dnnl_memory_desc_t *y,
                            dnnl_primitive_attr_t *attr, struct ft_err *err)
{
    *attr = NULL;
    FT_RETURN_IF_FAILED(ft_dnnl_check(dnnl_primitive_attr_create(attr), "attributes", err));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && output_scale != 1.0F) {
        status = dnnl_primitive_attr_set_output_scales(*attr, 1, 0, &output_scale);
    }
    if (status == dnnl_success && epilogue != NULL) {
        status = set_epilogue(epilogue, y, *attr);
    }
    if (status != dnnl_success) {
        (void)dnnl_primitive_attr_destroy(*attr);
        *attr = NULL;
    }
    return ft_dnnl_check(status, "attributes", err);
}

/* ---- primitives */

static enum ft_status add_arg(struct ft_cpu *cpu, struct ft_dnnl *d, int arg, const dnnl_memory_desc_t *md,
                              struct ft_err *err)
{
    assert(d->count < FT_DNNL_ARGS);
    dnnl_memory_t memory = NULL;
    FT_RETURN_IF_FAILED(
        ft_dnnl_check(dnnl_memory_create(&memory, md, cpu->engine, DNNL_MEMORY_NONE), "a memory", err));
    d->args[d->count].arg = arg;
    d->args[d->count].memory = memory;
    d->count++;
    return FT_OK;
}

enum ft_status ft_dnnl_make(struct ft_cpu *cpu, const_dnnl_primitive_desc_t pd,
                            const struct ft_dnnl_operand *operands, int count, int threads, struct ft_dnnl *d,
                            struct ft_err *err)
{
    enum ft_status st = FT_OK;
    d->threads = threads;
    d->scratch_at = -1;
    FT_TRY(ft_dnnl_check(dnnl_primitive_create(&d->primitive, pd), "a primitive", err));
    for (int i = 0; i < count; i++) {
        FT_TRY(add_arg(cpu, d, operands[i].arg, operands[i].md, err));
    }
    const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    if (scratchpad != NULL && dnnl_memory_desc_get_size(scratchpad) > 0) {
        d->scratch = dnnl_memory_desc_get_size(scratchpad);
        d->scratch_at = d->count;
        FT_TRY(add_arg(cpu, d, DNNL_ARG_SCRATCHPAD, scratchpad, err));
    }
done:
    if (st != FT_OK) {
        ft_dnnl_release(d);
    }
    return st;
}

enum ft_status ft_dnnl_reorder(struct ft_cpu *cpu, const dnnl_memory_desc_t *from,
                               const dnnl_memory_desc_t *to, int threads, struct ft_dnnl *d,
                               struct ft_err *err)
{
    enum ft_status st = FT_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    int before = ft_parallel_limit(threads);
    FT_TRY(ft_dnnl_attr(1.0F, NULL, NULL, &attr, err));
    FT_TRY(ft_dnnl_check(dnnl_reorder_primitive_desc_create(&pd, from, cpu->engine, to, cpu->engine, attr),
                         "a reorder", err));
    const struct ft_dnnl_operand operands[2] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    FT_TRY(ft_dnnl_make(cpu, pd, operands, 2, threads, d, err));
done:
    ft_parallel_limit(before);
    if (pd != NULL) {
        (void)dnnl_primitive_desc_destroy(pd);
    }
    if (attr != NULL) {
        (void)dnnl_primitive_attr_destroy(attr);
    }
    return st;
}

void ft_dnnl_release(struct ft_dnnl *d)
{
    for (int i = 0; i < d->count; i++) {
        (void)dnnl_memory_destroy(d->args[i].memory);
    }
    if (d->primitive != NULL) {
        (void)dnnl_primitive_destroy(d->primitive);
    }
    memset(d, 0, sizeof *d);
}

static enum ft_status point(struct ft_cpu *cpu, struct ft_dnnl *d, int i, void *data, struct ft_err *err)
{
    if (d->data[i] == data) {
        return FT_OK;
    }
    d->data[i] = data;
    return ft_dnnl_check(dnnl_memory_set_data_handle_v2(d->args[i].memory, data, cpu->stream),
                         "a data pointer", err);
}

enum ft_status ft_dnnl_run(struct ft_cpu *cpu, struct ft_dnnl *d, void *const *data, void *scratch,
                           struct ft_err *err)
{
    int operands = d->scratch_at >= 0 ? d->scratch_at : d->count;
    for (int i = 0; i < operands; i++) {
        FT_RETURN_IF_FAILED(point(cpu, d, i, data[i], err));
    }
    if (d->scratch_at >= 0) {
        FT_RETURN_IF_FAILED(point(cpu, d, d->scratch_at, scratch, err));
    }
    /* What it was made for: scratch is sized by it, and another device may have set another number. */
    int before = ft_parallel_limit(d->threads);
    dnnl_status_t status = dnnl_primitive_execute(d->primitive, cpu->stream, d->count, d->args);
    ft_parallel_limit(before);
    return ft_dnnl_check(status, "the execution of a primitive", err);
}

/* ---- packed weights */

enum ft_status ft_dnnl_pack_make(struct ft_cpu *cpu, const dnnl_memory_desc_t *plain,
                                 const dnnl_memory_desc_t *packed, int threads, struct ft_dnnl_pack *pack,
                                 struct ft_err *err)
{
    FT_RETURN_IF_FAILED(ft_dnnl_reorder(cpu, plain, packed, threads, &pack->reorder, err));
    enum ft_status st = ft_new(1, dnnl_memory_desc_get_size(packed), &pack->packed, err);
    if (st != FT_OK) {
        ft_dnnl_pack_release(pack);
    }
    return st;
}

void ft_dnnl_pack_release(struct ft_dnnl_pack *pack)
{
    ft_dnnl_release(&pack->reorder);
    ft_free(pack->packed);
    memset(pack, 0, sizeof *pack);
}

enum ft_status ft_dnnl_pack_update(struct ft_cpu *cpu, struct ft_dnnl_pack *pack, const struct ft_arg *master,
                                   void *scratch, struct ft_err *err)
{
    if (master->version != 0 && master->version == pack->version && master->data == pack->data) {
        return FT_OK;
    }
    void *data[2] = {master->data, pack->packed};
    FT_RETURN_IF_FAILED(ft_dnnl_run(cpu, &pack->reorder, data, scratch, err));
    pack->version = master->version;
    pack->data = master->data;
    return FT_OK;
}
