/* tests/c/check.h -- what the C programs share: CHECK(condition) prints what failed and counts; main returns failed().
 */
#ifndef CG_TEST_CHECK_H
#define CG_TEST_CHECK_H
#include <stdio.h>

/* Thread sanitizer stops a forked child that starts threads: the programs leave that part out. */
#if defined(__SANITIZE_THREAD__)
#define CG_TEST_FORK 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CG_TEST_FORK 0
#endif
#endif
#ifndef CG_TEST_FORK
#define CG_TEST_FORK 1
#endif

static int check_failures; /* CHECK belongs to the main thread: tasks record, main checks */

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            check_failures++;                                                                                          \
            printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                                             \
        }                                                                                                              \
    } while (0)

static inline int failed(void) { return check_failures ? 1 : 0; }
#endif
