/* links: ft_model ft_graph ft_kernels ft_codec ft_base */
/* covers: executor/model/proto.c executor/model/links.c executor/model/onnx.c executor/model/host.c
 * executor/model/fold.c executor/model/import.c executor/model/import_attention.c
 * executor/model/import_const.c executor/model/import_flow.c executor/model/import_index.c
 * executor/model/import_logic.c executor/model/import_map.c executor/model/import_math.c
 * executor/model/import_matrix.c executor/model/import_norm.c executor/model/import_pad.c
 * executor/model/import_reduce.c executor/model/import_resize.c executor/model/import_shape.c
 * executor/model/import_window.c executor/model/rewrite.c */
/* An ONNX file: refused with a reason, or what it became can be tailored (or not) and written, and the
 * written file is read as a graph with as many outputs. */
#include "tests/fuzz/target.h"

#include <assert.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/model/onnx.h"
#include "executor/model/tailor.h"

static void write_and_read(const struct ft_graph *g)
{
    struct ft_err err = {0};
    struct ft_buf out = {0};
    struct ft_model *again = NULL;
    if (ft_onnx_write(g, "fuzz", NULL, &out, &err) == FT_OK) {
        enum ft_status st = ft_onnx_read(ft_buf_bytes(&out), NULL, NULL, &again, &err);
        assert(st == FT_OK || st == FT_LIMIT || st == FT_UNSUPPORTED);
        assert(st != FT_OK || ft_graph_outputs(again->graph) == ft_graph_outputs(g));
    } else {
        assert(err.code != FT_OK && err.text[0] != '\0');
    }
    ft_model_free(again);
    ft_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = ft_alloc_stats().live_blocks;
    /* One layer: two would make a matrix of the square of whatever width the file says. */
    const struct ft_tailor_options tailor = {
        .output_dim = 4, .projection_layers = 1, .normalize = true, .freeze = "all"};
    struct ft_err err = {0};
    struct ft_model *model = NULL;
    struct ft_graph *tailored = NULL;
    struct ft_tailor_report report = {0};
    enum ft_status st = ft_onnx_read(ft_bytes_of(data, size), NULL, NULL, &model, &err);
    assert((st == FT_OK) == (model != NULL));
    assert(st == FT_OK || err.text[0] != '\0');
    if (st == FT_OK) {
        write_and_read(model->graph);
        if (ft_tailor(model, &tailor, &tailored, &report, &err) == FT_OK) {
            write_and_read(tailored);
        }
    }
    ft_tailor_report_release(&report);
    ft_graph_free(tailored);
    ft_model_free(model);
    assert(ft_alloc_stats().live_blocks == live);
    return 0;
}
