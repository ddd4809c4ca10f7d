/* wire_reply single|list < request > answer: what the service makes of a request whose Documents all have the
 * embedding (1, 2, 3, 4), as the executor myexec. For tests/jina/golden.py. */
/* links: ft_wire ft_codec ft_base */
#include <stdio.h>
#include <string.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/wire/jina.h"

enum { DIM = 4, BYTES_MAX = 1 << 20 };

static enum ft_status answer(const struct ft_jina_request *request, struct ft_buf *out, struct ft_err *err)
{
    float *vectors = NULL;
    FT_RETURN_IF_FAILED(ft_new(request->n_docs * DIM, sizeof *vectors, &vectors, err));
    for (size_t i = 0; i < request->n_docs * DIM; i++) {
        vectors[i] = (float)(i % DIM + 1);
    }
    struct ft_jina_reply reply = {.route = ft_bytes_of_text("myexec"), .embeddings = vectors, .dim = DIM};
    enum ft_status st = ft_jina_answer(request, &reply, out, err);
    ft_free(vectors);
    return st;
}

int main(int argc, char **argv)
{
    enum ft_status st = FT_OK;
    struct ft_err failure = {0};
    struct ft_err *err = &failure;
    struct ft_buf in = {0};
    struct ft_buf out = {0};
    struct ft_jina_request request = {0};
    bool list = argc > 1 && strcmp(argv[1], "list") == 0;
    FT_TRY(ft_file_read("/dev/stdin", BYTES_MAX, &in, err));
    FT_TRY(ft_jina_request_scan(ft_buf_bytes(&in), list ? FT_JINA_LIST : FT_JINA_DATA, &request, err));
    FT_TRY(answer(&request, &out, err));
    if (fwrite(out.data, 1, out.size, stdout) != out.size) {
        st = FT_FAIL(err, IO, "cannot write the answer");
    }
done:
    if (st != FT_OK) {
        (void)fprintf(stderr, "%s\n", err->text);
    }
    ft_jina_request_release(&request);
    ft_buf_release(&in);
    ft_buf_release(&out);
    return st == FT_OK ? 0 : 3;
}
