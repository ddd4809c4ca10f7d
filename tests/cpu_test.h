/*
 * cpu_test.h - device cpu, from the inside, for a group of tests: open_device() and close_device() are its
 * set-up and tear-down. For one test program each.
 */
#ifndef FT_TESTS_CPU_TEST_H
#define FT_TESTS_CPU_TEST_H

#include "kernels/cpu/cpu.h"
#include "support.h"

static struct ft_device *device;

static struct ft_cpu *cpu(void)
{
    return ft_cpu_of(device);
}

static int open_device(void **state)
{
    struct ft_err err = {0};
    (void)state;
    return ft_device_open("cpu", 3, &device, &err) == FT_OK ? 0 : 1;
}

static int close_device(void **state)
{
    (void)state;
    ft_device_close(device);
    return 0;
}

#endif
