/*
 * document.h - one Document, whatever form it came in: a view into the original bytes.
 */
#ifndef FT_WIRE_DOCUMENT_H
#define FT_WIRE_DOCUMENT_H

#include <stdbool.h>

#include "executor/codec/content.h"

struct ft_document {
    struct ft_bytes id; /* empty: none was given */
    bool has_label;
    bool label_is_number;  /* tags.finetuner_label was a number; label then holds its shortest text ("3",
                              "0.5") */
    struct ft_bytes label; /* UTF-8, 1 .. FT_MAX_LABEL_BYTES */
    struct ft_content content;
    struct ft_bytes raw; /* the Document's own message bytes; empty when it did not come over the wire */
};

/* What `count` Documents of a message take beside it. A message of 2 bytes a Document is one, too: where they
 * come from strangers, this is counted. */
static inline size_t ft_documents_bytes(size_t count)
{
    return count * (sizeof(struct ft_document) + 2 * sizeof(struct ft_bytes));
}
#endif
