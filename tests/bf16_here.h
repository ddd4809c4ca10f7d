/*
 * bf16_here.h - in which way tests compute in bf16: the processor's own where it has it, else emulated.
 */
#ifndef FT_TESTS_BF16_HERE_H
#define FT_TESTS_BF16_HERE_H

#include <stdio.h>

#include "kernels/kernel.h"

/* FT_PRECISION_BF16 or _EMULATED; which, and why, is printed. */
static inline enum ft_precision bf16_here(void)
{
    struct ft_err err = {0};
    struct ft_device *device = NULL;
    const char *why = NULL;
    enum ft_precision found = FT_PRECISION_BF16_EMULATED;
    if (ft_device_open("cpu", 1, &device, &err) == FT_OK) {
        bool own = ft_device_set_precision(device, FT_PRECISION_BF16, &err) == FT_OK;
        found = own ? FT_PRECISION_BF16 : FT_PRECISION_BF16_EMULATED;
        why = own ? ft_device_precision_note(device) : err.text;
    }
    (void)printf("bf16 is tested as %s%s%s\n", ft_precision_name(found), why != NULL ? ": " : "",
                 why != NULL ? why : "");
    ft_device_close(device);
    return found;
}
#endif
