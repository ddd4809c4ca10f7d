/* Datasets from files: every source, what is refused and how it is said, classes, subsets, digests. */
/* links: ft_store ft_wire ft_codec ft_base */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/base/alloc.h"
#include "executor/base/file.h"
#include "executor/codec/image.h"
#include "executor/store/dataset.h"

static char *folder; /* of this program's files, fresh */

static int set_up(void **state)
{
    struct ft_err err = {0};
    (void)state;
    return ft_dir_temp("test-dataset", &folder, &err) == FT_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct ft_err err = {0};
    (void)state;
    enum ft_status st = ft_path_remove(folder, &err);
    ft_free(folder);
    return st == FT_OK ? 0 : -1;
}

/* Write a file below the folder; its path stays valid until the next call but seven. */
static const char *file_of(const char *name, const void *data, size_t size)
{
    static char paths[8][512];
    static int next;
    struct ft_err err = {0};
    char *path = paths[next++ % 8];
    (void)snprintf(path, 512, "%s/%s", folder, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(ft_dir_make(path, &err), FT_OK);
    *slash = '/';
    assert_int_equal(ft_file_write(path, ft_bytes_of(data, size), &err), FT_OK);
    return path;
}

static const char *text_file(const char *name, const char *text)
{
    return file_of(name, text, strlen(text));
}

static struct ft_dataset *open_ok(const char *data, bool need_labels)
{
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    if (ft_dataset_open(data, need_labels, &ds, &err) != FT_OK) {
        fail_msg("%s", err.text);
    }
    return ds;
}

/* Opening fails with this status and a message that holds `part`. */
static void refused(const char *data, bool need_labels, enum ft_status want, const char *part)
{
    struct ft_err err = {0};
    struct ft_dataset *ds = NULL;
    size_t before = ft_alloc_stats().live_blocks;
    enum ft_status st = ft_dataset_open(data, need_labels, &ds, &err);
    if (st != want || strstr(err.text, part) == NULL) {
        fail_msg("%s: got %s: %s; want %s: %s", data, ft_status_text(st), err.text, ft_status_text(want),
                 part);
    }
    assert_null(ds);
    assert_int_equal(ft_alloc_stats().live_blocks, before);
}

static void assert_bytes(struct ft_bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.size);
}

/* ---- JSONL ---- */

static const char lines[] = "\xef\xbb\xbf{\"text\": \"h\\u00e9\", \"label\": \"b\"}\r\n"
                            "\n"
                            "{\"label\": 3, \"id\": \"x\", \"tensor\": [[1, 2.5], [3, -4e0]]}\n"
                            "{\"blob\": \"AAEC\", \"label\": 3.0, \"id\": 17}\n"
                            "{\"text\": \"last\", \"label\": \"B\"}";

static void jsonl_is_read(void **state)
{
    (void)state;
    const char *path = text_file("a.jsonl", lines);
    struct ft_dataset *ds = open_ok(path, true);
    assert_int_equal(ft_dataset_count(ds), 4);
    assert_int_equal(ft_dataset_classes(ds),
                     3); /* the bytes order: "3" < "B" < "b"; 3 and 3.0 are one class */
    assert_string_equal(ft_dataset_class_name(ds, 0), "3");
    assert_string_equal(ft_dataset_class_name(ds, 1), "B");
    assert_string_equal(ft_dataset_class_name(ds, 2), "b");
    assert_int_equal(ft_dataset_class_of(ds, 0), 2);
    assert_int_equal(ft_dataset_class_of(ds, 1), 0);
    assert_int_equal(ft_dataset_class_count(ds, 0), 2);
    assert_int_equal(ft_dataset_class_item(ds, 0, 0), 1);
    assert_int_equal(ft_dataset_class_item(ds, 0, 1), 2);
    assert_bytes(ft_dataset_doc(ds, 0)->content.bytes, "h\xc3\xa9");
    const struct ft_document *tensor = ft_dataset_doc(ds, 1);
    const float want[] = {1.0F, 2.5F, 3.0F, -4.0F};
    assert_bytes(tensor->id, "x");
    assert_true(tensor->label_is_number);
    assert_string_equal(tensor->content.dtype, "<f4");
    assert_int_equal(tensor->content.rank, 2);
    assert_int_equal(tensor->content.dims[1], 2);
    assert_int_equal(tensor->content.bytes.size, sizeof want);
    assert_memory_equal(tensor->content.bytes.data, want, sizeof want);
    assert_int_equal(ft_dataset_doc(ds, 2)->content.bytes.size, 3);
    assert_bytes(ft_dataset_doc(ds, 2)->id, "17");
    char where[600];
    (void)snprintf(where, sizeof where, "%s:5", path);
    assert_string_equal(ft_dataset_where(ds, 3), where);
    ft_dataset_free(ds);
}

static void jsonl_says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool labels;
        enum ft_status want;
        const char *part;
    } cases[] = {
        {"{\"text\": \"a\", \"label\": 1}\n{\"txt\": \"b\"}\n", true, FT_INVALID,
         ":2: unknown key \"txt\"; accepted: text, uri"},
        {"{\"text\": \"a\", \"lable\": \"b\"}\n", false, FT_INVALID, "take others out, e.g. jq"},
        {"{\"text\": \"a\", \"category\": \"b\"}\n", true, FT_INVALID, "call it \"label\""},
        {"{\"sentence\": \"a\", \"label\": \"b\"}\n", true, FT_INVALID, "call it \"text\""},
        {"{\"text\": \"a\"}\n", true, FT_INVALID, ":1: no label"},
        {"{\"text\": \"a\", \"id\": \"Q\", \"label\": null}\n", true, FT_INVALID, "\"Q\""},
        {"{\"text\": \"a\", \"label\": \"\"}\n", true, FT_INVALID, "no label"},
        {"{\"label\": 1}\n", true, FT_INVALID, "no content"},
        {"{\"text\": \"a\", \"uri\": \"b\", \"label\": 1}\n", true, FT_INVALID, "second content"},
        {"{\"text\": 1, \"label\": 1}\n", true, FT_INVALID, "\"text\" must be text"},
        {"{\"text\": \"\", \"label\": 1}\n", true, FT_INVALID, "empty"},
        {"{\"text\": \"a\", \"label\": true}\n", true, FT_INVALID, "\"label\" must be text or a number"},
        {"{\"text\": \"a\", \"label\": [1]}\n", true, FT_INVALID, "\"label\" must be"},
        {"{\"blob\": \"!!!\", \"label\": 1}\n", true, FT_INVALID, "\"blob\""},
        {"{\"blob\": 3, \"label\": 1}\n", true, FT_INVALID, "base64"},
        {"{\"tensor\": 3}\n", false, FT_INVALID, "array of numbers"},
        {"{\"tensor\": []}\n", false, FT_INVALID, "empty array"},
        {"{\"tensor\": [[1, 2], [3]]}\n", false, FT_INVALID, "ragged"},
        {"{\"tensor\": [[1, 2], 3]}\n", false, FT_INVALID, "ragged"},
        {"{\"tensor\": [1, \"2\"]}\n", false, FT_INVALID, "where a number belongs"},
        {"{\"tensor\": [1, [2]]}\n", false, FT_INVALID, "where a number belongs"},
        {"{\"tensor\": [1e39]}\n", false, FT_INVALID, "too large"},
        {"{\"tensor\": [[[[[[[[[1]]]]]]]]]}\n", false, FT_LIMIT, "dimensions"},
        {"[1]\n", false, FT_INVALID, "JSON object"},
        {"{\"text\": \"a\"\n", false, FT_INVALID, ":1:"},
        {"\n \n", false, FT_INVALID, "holds no Documents"},
        {"", false, FT_INVALID, "holds no Documents"},
        {"{\"uri\": \"none.png\", \"label\": 1}\n", true, FT_NOT_FOUND, "none.png"},
        {"{\"uri\": \"http://x/y.png\", \"label\": 1}\n", true, FT_UNSUPPORTED, "http://x/y.png"},
        {"{\"uri\": \"data:image/png;base64,AA\", \"label\": 1}\n", true, FT_UNSUPPORTED, "data:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        refused(text_file("bad.jsonl", cases[i].text), cases[i].labels, cases[i].want, cases[i].part);
    }
    char deep[5000];
    memset(deep, '[', sizeof deep - 2);
    deep[sizeof deep - 2] = '\n';
    deep[sizeof deep - 1] = '\0';
    refused(text_file("deep.jsonl", deep), false, FT_LIMIT, "deep.jsonl:1");
}

static void unlabelled_data_is_fine_when_no_labels_are_needed(void **state)
{
    (void)state;
    struct ft_dataset *ds =
        open_ok(text_file("u.jsonl", "{\"text\": \"\"}\n{\"text\": \"b\", \"label\": 2}\n"), false);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_int_equal(ft_dataset_class_of(ds, 0), -1);
    assert_int_equal(ft_dataset_class_of(ds, 1), 0);
    ft_dataset_free(ds);
}

static void the_last_of_equal_ids_wins_in_the_first_place(void **state)
{
    (void)state;
    struct ft_buf b = {0};
    struct ft_err err = {0};
    for (int i = 0; i < 500; i++) {
        assert_int_equal(ft_buf_printf(&b, &err, "{\"id\": \"d%d\", \"text\": \"t%d\", \"label\": %d}\n",
                                       i % 200, i, i % 7),
                         FT_OK);
    }
    struct ft_dataset *ds = open_ok(file_of("dup.jsonl", b.data, b.size), true);
    assert_int_equal(ft_dataset_count(ds), 200);
    for (int i = 0; i < 200; i++) {
        char want[32];
        int last = i < 100 ? i + 400 : i + 200;
        (void)snprintf(want, sizeof want, "t%d", last);
        assert_bytes(ft_dataset_doc(ds, (size_t)i)->content.bytes, want);
        assert_int_equal(ft_dataset_class_of(ds, (size_t)i), last % 7);
    }
    ft_dataset_free(ds);
    ft_buf_release(&b);
}

static void stdin_is_json_lines(void **state)
{
    (void)state;
    const char *path = text_file("in.txt", lines);
    int saved = dup(STDIN_FILENO);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    (void)dup2(fd, STDIN_FILENO);
    struct ft_dataset *ds = open_ok("-", true);
    assert_int_equal(ft_dataset_count(ds), 4);
    assert_string_equal(ft_dataset_where(ds, 0), "stdin:1");
    ft_dataset_free(ds);
    if (saved >= 0) {
        (void)dup2(saved, STDIN_FILENO);
        (void)close(saved);
    }
    (void)close(fd);
}

/* ---- CSV ---- */

static void csv_is_read(void **state)
{
    (void)state;
    (void)text_file("csv/img/1.png", "PNG1");
    const char *path = text_file("csv/a.csv", "img/1.png,cat\n\"a, \"\"b\"\"\",dog\nplain,cat\nlabel,x\n");
    struct ft_dataset *ds = open_ok(path, true);
    assert_int_equal(ft_dataset_count(ds), 4);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_URI);
    assert_bytes(ft_dataset_doc(ds, 1)->content.bytes, "a, \"b\"");
    assert_int_equal(ft_dataset_doc(ds, 2)->content.kind, FT_CONTENT_TEXT);
    assert_int_equal(ft_dataset_class_of(ds, 0), ft_dataset_class_of(ds, 2));
    struct ft_err err = {0};
    struct ft_buf own = {0};
    struct ft_content content;
    assert_int_equal(ft_dataset_content(ds, 0, &own, &content, &err), FT_OK);
    assert_int_equal(content.kind, FT_CONTENT_BLOB);
    assert_bytes(content.bytes, "PNG1");
    assert_int_equal(ft_dataset_content(ds, 0, &own, &content, &err), FT_OK); /* own is reused */
    assert_int_equal(ft_dataset_content(ds, 2, &own, &content, &err), FT_OK);
    assert_bytes(content.bytes, "plain");
    ft_buf_release(&own);
    ft_dataset_free(ds);
}

static void csv_headers_say_what_the_column_is(void **state)
{
    (void)state;
    (void)text_file("h/1.png", "PNG1");
    struct ft_dataset *ds = open_ok(text_file("h/text.csv", "text,label\n1.png,a\nb,b\n"), true);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_TEXT);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/uri.csv", "URI,Label\n1.png,a\n"), true);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_URI);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/tab.tsv", "content\tlabel\n1.png\ta\nx y\tb\n"), true);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_URI);
    assert_int_equal(ft_dataset_doc(ds, 1)->content.kind, FT_CONTENT_TEXT);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/any.csv", "ticket,label\n1.png,a\nb,b\n"), true);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_URI);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/usual.csv", "Sentence,Category\n1.png,a\nb,b\n"), true);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_TEXT);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/turned.csv", "label,text\na,1.png\nb,b c\n"), true);
    assert_int_equal(ft_dataset_count(ds), 2);
    assert_bytes(ft_dataset_doc(ds, 1)->content.bytes, "b c");
    assert_bytes(ft_dataset_doc(ds, 1)->label, "b");
    assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_TEXT);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/none.csv", "a ticket,category\nb,b\n"), true); /* a class may be called so */
    assert_int_equal(ft_dataset_count(ds), 2);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/lone.csv", "title\nsecond\n"), false);
    assert_int_equal(ft_dataset_count(ds), 2);
    ft_dataset_free(ds);
    ds = open_ok(text_file("h/one.csv", "first\nsecond\n"), false); /* queries: no label column */
    assert_int_equal(ft_dataset_count(ds), 2);
    ft_dataset_free(ds);
    refused(text_file("h/missing.csv", "uri,label\n2.png,a\n"), true, FT_NOT_FOUND,
            "missing.csv:2: uri \"2.png\"");
}

static void csv_says_what_is_wrong(void **state)
{
    (void)state;
    refused(text_file("bad.csv", "a,b\nc\n"), true, FT_INVALID, ":2: 1 columns");
    refused(text_file("bad.csv", "a,b,0.5\n"), true, FT_INVALID, ":1: 3 columns");
    refused(text_file("bad.csv", "a,b\nc,\n"), true, FT_INVALID, ":2: no label");
    refused(text_file("bad.csv", "a,b\n,b\n"), true, FT_INVALID, ":2: the content is empty");
    refused(text_file("bad.csv", "a,b\n\xff,b\n"), true, FT_INVALID, ":2: column 1 is not UTF-8");
    refused(text_file("bad.csv", "a,b\nhttp://h/i.png,b\n"), true, FT_UNSUPPORTED, "");
    refused(text_file("bad.csv", "text,label\n"), true, FT_INVALID, "holds no Documents");
    refused(text_file("bad.csv", "a,\"b\n"), true, FT_INVALID, "bad.csv");
}

/* ---- folders ---- */

static void folders_are_classes(void **state)
{
    (void)state;
    (void)text_file("f/dog/2.JPG", "D2");
    (void)text_file("f/dog/10.png", "D10");
    (void)text_file("f/cat/1.jpeg", "C1");
    (void)text_file("f/cat/.hidden.png", "H");
    (void)text_file("f/cat/notes.txt", "N");
    (void)text_file("f/.git/x.png", "H");
    (void)text_file("f/README.md", "R");
    char path[600];
    (void)snprintf(path, sizeof path, "%s/f", folder);
    struct ft_dataset *ds = open_ok(path, true);
    assert_int_equal(ft_dataset_count(ds), 3);
    assert_bytes(ft_dataset_doc(ds, 0)->id, "cat/1.jpeg");
    assert_bytes(ft_dataset_doc(ds, 1)->id, "dog/10.png");
    assert_bytes(ft_dataset_doc(ds, 2)->id, "dog/2.JPG");
    assert_string_equal(ft_dataset_class_name(ds, 1), "dog");
    struct ft_err err = {0};
    struct ft_buf own = {0};
    struct ft_content content;
    assert_int_equal(ft_dataset_content(ds, 1, &own, &content, &err), FT_OK);
    assert_bytes(content.bytes, "D10");
    ft_buf_release(&own);
    ft_dataset_free(ds);
}

/* Queries need no labels: a folder of images will do, and sub-folders are labels still. */
static void a_folder_may_hold_images_where_labels_are_not_needed(void **state)
{
    (void)state;
    (void)text_file("flat/2.png", "P2");
    (void)text_file("flat/1.jpg", "P1");
    (void)text_file("flat/notes.txt", "N");
    (void)text_file("flat/cat/1.png", "C1");
    char path[600];
    (void)snprintf(path, sizeof path, "%s/flat", folder);
    struct ft_dataset *ds = open_ok(path, false);
    assert_int_equal(ft_dataset_count(ds), 3);
    assert_bytes(ft_dataset_doc(ds, 0)->id, "1.jpg");
    assert_false(ft_dataset_doc(ds, 0)->has_label);
    assert_int_equal(ft_dataset_class_of(ds, 1), -1);
    assert_bytes(ft_dataset_doc(ds, 2)->id, "cat/1.png");
    assert_int_equal(ft_dataset_class_of(ds, 2), 0);
    ft_dataset_free(ds);
    refused(path, true, FT_INVALID, "outside of a class folder");
}

static void folders_of_another_layout_are_explained(void **state)
{
    (void)state;
    char path[600];
    struct ft_err err = {0};
    (void)snprintf(path, sizeof path, "%s/g", folder);
    assert_int_equal(ft_dir_make(path, &err), FT_OK);
    refused(path, true, FT_INVALID, "one folder per class");
    (void)text_file("g/1.png", "P");
    refused(path, true, FT_INVALID, "outside of a class folder");
    (void)snprintf(path, sizeof path, "%s/k", folder);
    (void)text_file("k/a/b/1.png", "P");
    refused(path, true, FT_INVALID, "a folder inside a class folder");
    (void)snprintf(path, sizeof path, "%s/m", folder);
    (void)text_file("m/a/1.txt", "P");
    refused(path, true, FT_INVALID, "holds no .png");
    (void)text_file("m/a/1.gif", "P");
    refused(path, true, FT_UNSUPPORTED, "convert it to PNG");
}

/* ---- DocumentArray ---- */

static void document_arrays_are_read(void **state)
{
    (void)state;
    static const char *const names[] = {"labels.protobuf", "labels.protobuf.gzip", "labels.protobuf-array",
                                        "labels.protobuf-array.gzip"};
    char first[FT_SHA256_HEX] = "";
    for (size_t i = 0; i < 4; i++) {
        /* The uri of Document "e" must exist beside the file. */
        char path[600];
        struct ft_buf bytes = {0};
        struct ft_err err = {0};
        (void)snprintf(path, sizeof path, FT_TEST_DATA "/jina/v1/%s", names[i]);
        assert_int_equal(ft_file_read(path, 1 << 20, &bytes, &err), FT_OK);
        (void)text_file("da/image.png", "PNG");
        (void)snprintf(path, sizeof path, "da/%s", names[i]);
        const char *copy = file_of(path, bytes.data, bytes.size);
        ft_buf_release(&bytes);
        struct ft_dataset *ds = open_ok(copy, false);
        assert_int_equal(ft_dataset_count(ds), 8);
        assert_int_equal(ft_dataset_classes(ds),
                         5); /* 0 0.5 1e+300 3 städte; b's number and d's text are one */
        assert_bytes(ft_dataset_doc(ds, 0)->content.bytes, "z\xc3\xbcrich");
        assert_int_equal(ft_dataset_class_of(ds, 1), ft_dataset_class_of(ds, 3));
        assert_int_equal(ft_dataset_class_of(ds, 5), -1);
        char hex[FT_SHA256_HEX];
        assert_int_equal(ft_dataset_digest(ds, hex, &err), FT_OK);
        if (i == 0) {
            memcpy(first, hex, sizeof first);
        }
        assert_string_equal(first, hex);
        ft_dataset_free(ds);
        refused(copy, true, FT_INVALID, "Document 5: no label (text or a number); id \"f\"");
    }
}

static void unreadable_document_arrays_say_what_to_do(void **state)
{
    (void)state;
    refused(FT_TEST_DATA "/jina/v1/labels.bin", true, FT_UNSUPPORTED, "protocol='protobuf'");
    refused(FT_TEST_DATA "/jina/v1/labels.pickle", true, FT_UNSUPPORTED, "protocol='protobuf'");
    refused(FT_TEST_DATA "/jina/v1/labels.protobuf.bz2", true, FT_UNSUPPORTED, "bz2");
}

/* docarray 0.40's DocList.save_binary() begins with a 2. */
static void doc_lists_are_read(void **state)
{
    (void)state;
    struct ft_buf v2 = {0};
    struct ft_err err = {0};
    assert_int_equal(ft_file_read(FT_TEST_DATA "/jina/v2/docproto_imagedoc.bin", 1 << 20, &v2, &err), FT_OK);
    for (uint8_t version = 1; version <= 2; version++) {
        const uint8_t head[13] = {version,         0, 0, 0, 0, 0, 0, 0, 1, 0, 0, (uint8_t)(v2.size >> 8),
                                  (uint8_t)v2.size};
        struct ft_buf array = {0};
        assert_int_equal(ft_buf_append(&array, head, sizeof head, &err), FT_OK);
        assert_int_equal(ft_buf_append(&array, v2.data, v2.size, &err), FT_OK);
        struct ft_dataset *ds = open_ok(file_of("v2.bin", array.data, array.size), false);
        assert_int_equal(ft_dataset_count(ds), 1);
        assert_int_equal(ft_dataset_doc(ds, 0)->content.kind, FT_CONTENT_TENSOR);
        ft_dataset_free(ds);
        ft_buf_release(&array);
    }
    ft_buf_release(&v2);
}

static void cut_document_arrays_are_corrupt(void **state)
{
    (void)state;
    struct ft_buf bytes = {0};
    struct ft_err err = {0};
    assert_int_equal(ft_file_read(FT_TEST_DATA "/jina/v1/labels.protobuf.gzip", 1 << 20, &bytes, &err),
                     FT_OK);
    (void)text_file("image.png", "PNG");
    for (size_t n = 1; n < bytes.size; n += 7) {
        refused(file_of("cut.bin", bytes.data, n), false, FT_CORRUPT, "cut.bin");
    }
    assert_int_equal(ft_buf_append(&bytes, "x", 1, &err), FT_OK);
    refused(file_of("cut.bin", bytes.data, bytes.size), false, FT_CORRUPT, "1 bytes after");
    bytes.data[1] = 0xff; /* an absurd count */
    refused(file_of("cut.bin", bytes.data, bytes.size), false, FT_CORRUPT, "cut.bin");
    ft_buf_release(&bytes);
}

/* ---- the rest ---- */

static void other_files_are_refused(void **state)
{
    (void)state;
    refused(text_file("a.xyz", "hello"), true, FT_UNSUPPORTED, "give .jsonl");
    char path[600];
    (void)snprintf(path, sizeof path, "%s/nothing.jsonl", folder);
    refused(path, true, FT_NOT_FOUND, "nothing.jsonl");
    struct ft_dataset *ds = open_ok(text_file("lines.txt", " \n{\"text\": \"a\", \"label\": 1}\n"), true);
    assert_int_equal(ft_dataset_count(ds), 1); /* told by its first character */
    ft_dataset_free(ds);
}

static void uris_resolve_beside_the_file(void **state)
{
    (void)state;
    (void)text_file("u/sub/a b.png", "AB");
    char text[1200];
    (void)snprintf(text, sizeof text,
                   "{\"uri\": \"sub/a b.png\"}\n{\"uri\": \"file://%s/u/sub/a%%20b.png\"}\n{\"uri\": "
                   "\"%s/u/sub/a b.png\"}\n",
                   folder, folder);
    struct ft_dataset *ds = open_ok(text_file("u/u.jsonl", text), false);
    struct ft_err err = {0};
    struct ft_buf own = {0};
    struct ft_content content;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ft_dataset_content(ds, i, &own, &content, &err), FT_OK);
        assert_bytes(content.bytes, "AB");
    }
    (void)snprintf(text, sizeof text, "%s/u/sub/a b.png", folder);
    assert_int_equal(unlink(text), 0);
    assert_int_equal(ft_dataset_content(ds, 1, &own, &content, &err), FT_NOT_FOUND);
    assert_non_null(strstr(err.text, "u.jsonl:2"));
    ft_buf_release(&own);
    ft_dataset_free(ds);
}

static void subsets_keep_class_numbers(void **state)
{
    (void)state;
    struct ft_dataset *all = open_ok(text_file("s.jsonl", lines), true);
    struct ft_dataset *some = NULL;
    struct ft_dataset *one = NULL;
    struct ft_err err = {0};
    const uint32_t items[] = {3, 1, 2};
    assert_int_equal(ft_dataset_subset(all, items, 3, &some, &err), FT_OK);
    assert_int_equal(ft_dataset_count(some), 3);
    assert_int_equal(ft_dataset_classes(some), 3);
    assert_bytes(ft_dataset_doc(some, 0)->content.bytes, "last");
    assert_int_equal(ft_dataset_class_of(some, 0), 1);
    assert_int_equal(ft_dataset_class_count(some, 2), 0);
    assert_int_equal(ft_dataset_class_count(some, 0), 2);
    assert_int_equal(ft_dataset_class_item(some, 0, 0), 1);
    assert_int_equal(ft_dataset_class_item(some, 0, 1), 2);
    assert_string_equal(ft_dataset_where(some, 1), ft_dataset_where(all, 1));
    const uint32_t second[] = {1};
    assert_int_equal(ft_dataset_subset(some, second, 1, &one, &err), FT_OK); /* a subset of a subset */
    assert_bytes(ft_dataset_doc(one, 0)->id, "x");
    assert_string_equal(ft_dataset_class_name(one, 0), "3");
    ft_dataset_free(one);
    ft_dataset_free(some);
    assert_int_equal(ft_dataset_subset(all, NULL, 0, &some, &err), FT_OK);
    assert_int_equal(ft_dataset_count(some), 0);
    ft_dataset_free(some);
    ft_dataset_free(all);
}

static void digest_of(const char *text, char hex[FT_SHA256_HEX])
{
    struct ft_err err = {0};
    struct ft_dataset *ds = open_ok(text_file("digest.jsonl", text), false);
    assert_int_equal(ft_dataset_digest(ds, hex, &err), FT_OK);
    assert_int_equal(strlen(hex), 64);
    ft_dataset_free(ds);
}

static void digests_follow_the_content(void **state)
{
    (void)state;
    char a[FT_SHA256_HEX];
    char b[FT_SHA256_HEX];
    digest_of("{\"text\": \"a\", \"label\": \"x\"}\n", a);
    digest_of("\n{\"label\": \"x\", \"text\": \"\\u0061\"}", b);
    assert_string_equal(a, b); /* how it is written does not matter */
    static const char *const others[] = {
        "{\"text\": \"b\", \"label\": \"x\"}\n",
        "{\"text\": \"a\", \"label\": \"y\"}\n",
        "{\"text\": \"a\"}\n",
        "{\"text\": \"a\", \"label\": \"x\", \"id\": \"1\"}\n",
        "{\"blob\": \"YQ==\", \"label\": \"x\"}\n",
        "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"a\", \"label\": \"x\"}\n"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        digest_of(others[i], b);
        assert_string_not_equal(a, b);
    }
    digest_of("{\"tensor\": [[1, 2], [3, 4]]}\n", a);
    digest_of("{\"tensor\": [1, 2, 3, 4]}\n", b);
    assert_string_not_equal(a, b);
}

static void out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    (void)text_file("o/c/1.png", "P");
    char dir[600];
    (void)snprintf(dir, sizeof dir, "%s/o", folder);
    (void)text_file("image.png", "PNG");
    const char *paths[] = {text_file("o.jsonl", lines), text_file("o.csv", "text,label\na,b\nc,d\n"), dir,
                           FT_TEST_DATA "/jina/v1/labels.protobuf.gzip"};
    for (size_t i = 0; i < 4; i++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            struct ft_err err = {0};
            struct ft_dataset *ds = NULL;
            struct ft_dataset *part = NULL;
            char hex[FT_SHA256_HEX];
            const uint32_t items[] = {0};
            size_t before = ft_alloc_stats().live_blocks;
            ft_alloc_fail_at(n);
            enum ft_status st = ft_dataset_open(paths[i], false, &ds, &err);
            if (st == FT_OK) {
                st = ft_dataset_subset(ds, items, 1, &part, &err);
            }
            if (st == FT_OK) {
                st = ft_dataset_digest(part, hex, &err);
            }
            ft_alloc_fail_at(0);
            /* The golden file's uri does not exist beside it: that path ends with NOT_FOUND. */
            assert_true(st == FT_OK || st == FT_NOMEM || (i == 3 && st == FT_NOT_FOUND));
            failed = st == FT_NOMEM;
            ft_dataset_free(part);
            ft_dataset_free(ds);
            assert_int_equal(ft_alloc_stats().live_blocks, before);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jsonl_is_read),
        cmocka_unit_test(jsonl_says_what_is_wrong),
        cmocka_unit_test(unlabelled_data_is_fine_when_no_labels_are_needed),
        cmocka_unit_test(the_last_of_equal_ids_wins_in_the_first_place),
        cmocka_unit_test(stdin_is_json_lines),
        cmocka_unit_test(csv_is_read),
        cmocka_unit_test(csv_headers_say_what_the_column_is),
        cmocka_unit_test(csv_says_what_is_wrong),
        cmocka_unit_test(folders_are_classes),
        cmocka_unit_test(folders_of_another_layout_are_explained),
        cmocka_unit_test(a_folder_may_hold_images_where_labels_are_not_needed),
        cmocka_unit_test(document_arrays_are_read),
        cmocka_unit_test(unreadable_document_arrays_say_what_to_do),
        cmocka_unit_test(doc_lists_are_read),
        cmocka_unit_test(cut_document_arrays_are_corrupt),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(uris_resolve_beside_the_file),
        cmocka_unit_test(subsets_keep_class_numbers),
        cmocka_unit_test(digests_follow_the_content),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
