/* links: ft_codec ft_base */
#include "executor/codec/digest.h"

#include "tests/support.h"

/* FIPS 180-4's examples. */
static void sha256_gives_nists_answers(void **state)
{
    (void)state;
    struct ft_err err = {0};
    char hex[FT_SHA256_HEX];
    ft_sha256_of(ft_bytes_of(NULL, 0), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ft_sha256_of(ft_bytes_of_text("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ft_sha256_of(ft_bytes_of_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    struct ft_sha256 *sha = NULL;
    ASSERT_OK(ft_sha256_new(&sha, &err));
    char block[1000];
    memset(block, 'a', sizeof block);
    for (int i = 0; i < 1000; i++) {
        ft_sha256_add(sha, ft_bytes_of(block, sizeof block));
    }
    ft_sha256_finish(sha, hex);
    ft_sha256_free(sha);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    ft_sha256_free(NULL);
}

static void crc32_gives_the_check_value(void **state)
{
    (void)state;
    assert_int_equal(ft_crc32(0, ft_bytes_of_text("123456789")), 0xcbf43926);
    assert_int_equal(ft_crc32(ft_crc32(0, ft_bytes_of_text("1234")), ft_bytes_of_text("56789")), 0xcbf43926);
    assert_int_equal(ft_crc32(5, ft_bytes_of(NULL, 0)), 5);
}

/* RFC 4648, chapter 10. */
static void base64_gives_the_rfcs_answers(void **state)
{
    (void)state;
    static const char *const known[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct ft_err err = {0};
        struct ft_buf out = {0};
        ASSERT_OK(ft_base64_encode(ft_bytes_of_text(known[i][0]), &out, &err));
        assert_string_equal((char *)out.data, known[i][1]);
        ASSERT_OK(ft_base64_decode(ft_buf_bytes(&out), &out, &err)); /* appends */
        assert_string_equal((char *)out.data + strlen(known[i][1]), known[i][0]);
        ft_buf_release(&out);
    }
    uint8_t all[256];
    struct ft_err err = {0};
    struct ft_buf text = {0};
    struct ft_buf back = {0};
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (uint8_t)(i * 89);
    }
    ASSERT_OK(ft_base64_encode(ft_bytes_of(all, sizeof all), &text, &err));
    ASSERT_OK(ft_base64_decode(ft_buf_bytes(&text), &back, &err));
    assert_true(ft_bytes_equal(ft_buf_bytes(&back), ft_bytes_of(all, sizeof all)));
    ft_buf_release(&text);
    ft_buf_release(&back);
}

static void wrong_base64_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "Zg=", "Zg", "Z", "Zg==Zg==", "Z===", "====", "Zm9v\n", "Zm-_", "Zm 9", "=Zg="};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct ft_err err = {0};
        struct ft_buf out = {0};
        assert_int_equal(ft_base64_decode(ft_bytes_of_text(wrong[i]), &out, &err), FT_INVALID);
        assert_int_equal(out.size, 0);
        ft_buf_release(&out);
    }
}

static enum ft_status unzip(void *arg, struct ft_err *err)
{
    const struct ft_buf *file = arg;
    struct ft_buf out = {0};
    enum ft_status st = ft_gunzip(ft_buf_bytes(file), 10000, &out, err);
    if (st == FT_OK) {
        assert_int_equal(out.size, 10000);
        assert_memory_equal(out.data + 9990, "finetuner ", 11);
    } else {
        assert_int_equal(out.size, 0);
    }
    ft_buf_release(&out);
    return st;
}

static void gzip_is_read_whole_or_refused(void **state)
{
    (void)state;
    struct ft_err err = {0};
    struct ft_buf file = golden("codec/gzip.gz");
    struct ft_buf out = {0};
    ASSERT_OK(unzip(&file, &err));
    assert_int_equal(ft_gunzip(ft_buf_bytes(&file), 9999, &out, &err), FT_LIMIT);
    for (size_t n = 0; n < file.size; n++) {
        assert_int_equal(ft_gunzip(ft_bytes_of(file.data, n), 10000, &out, &err), FT_CORRUPT);
    }
    file.data[file.size - 6] ^= 1; /* its checksum */
    assert_int_equal(unzip(&file, &err), FT_CORRUPT);
    file.data[file.size - 6] ^= 1;
    ASSERT_OK(ft_buf_text(&file, "more", &err));
    assert_int_equal(unzip(&file, &err), FT_CORRUPT);
    assert_int_equal(out.size, 0);
    ft_buf_release(&out);
    ft_buf_release(&file);
}

static enum ft_status use_all(void *arg, struct ft_err *err)
{
    enum ft_status st = FT_OK;
    struct ft_buf text = {0};
    struct ft_buf back = {0};
    struct ft_sha256 *sha = NULL;
    FT_TRY(ft_sha256_new(&sha, err));
    FT_TRY(ft_base64_encode(ft_bytes_of_text("some bytes"), &text, err));
    FT_TRY(ft_base64_decode(ft_buf_bytes(&text), &back, err));
    FT_TRY(unzip(arg, err));
done:
    ft_sha256_free(sha);
    ft_buf_release(&text);
    ft_buf_release(&back);
    return st;
}

static void memory_running_out_leaves_nothing_behind(void **state)
{
    (void)state;
    struct ft_buf file = golden("codec/gzip.gz");
    fail_each_allocation(use_all, &file);
    ft_buf_release(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_nists_answers),
        cmocka_unit_test(crc32_gives_the_check_value),
        cmocka_unit_test(base64_gives_the_rfcs_answers),
        cmocka_unit_test(wrong_base64_is_refused),
        cmocka_unit_test(gzip_is_read_whole_or_refused),
        cmocka_unit_test(memory_running_out_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
