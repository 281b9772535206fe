/*
 * How late a loop is that does nothing but look at the clock, at 1,000 times a second: what
 * --spin of the client is compared with.
 *
 * spin SECONDS writes the median and p90, in microseconds.
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static int compare(const void *one, const void *other)
{
    long left = *(const long *)one, right = *(const long *)other;
    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? (long)(atof(argv[1]) * 1000) : 0;
    long *late = count > 0 ? malloc(count * sizeof *late) : NULL;
    if (late == NULL)
        return 2;
    long began = now();
    for (long i = 0; i < count; i++) {
        long due = began + i * 1000000L, at;
        while ((at = now()) < due)
            ;
        late[i] = at - due;
    }
    qsort(late, count, sizeof *late, compare);
    printf("%.3f %.3f\n", late[(count - 1) / 2] / 1e3, late[(count * 9 - 1) / 10] / 1e3);
    return 0;
}
