/* links: ft_config ft_codec ft_base */
/* covers: executor/config/file.c executor/config/config.c */
/*
 * A config.yml from a stranger: a status with the line, never a crash; what was read can be written.
 */
#include <assert.h>
#include <stdlib.h>

#include "executor/base/log.h"
#include "executor/config/config.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ft_err err = {0};
    struct ft_config config;
    struct ft_json *json = NULL;
    ft_log_level_set(FT_LOG_OFF);
    enum ft_status st = ft_config_init(&config, &err);
    assert(st == FT_OK);
    st = ft_config_read_text(&config, "config.yml", ft_bytes_of(data, size), &err);
    assert(st == FT_OK || err.text[0] != '\0');
    st = ft_config_write(&config, &json, &err);
    assert(st == FT_OK);
    ft_json_free(json);
    ft_config_release(&config);
    return 0;
}
