/* tests/c/check.h -- what the C programs share: CHECK(condition) prints what failed and counts; main returns failed().
 */
#ifndef CG_TEST_CHECK_H
#define CG_TEST_CHECK_H
#include <stdio.h>

/* Programs fork only without a sanitizer: the thread sanitizer stops a forked child that starts threads, and the
 * address sanitizer's own allocator stays locked in the child if another thread was inside it at the moment of the
 * fork. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define CG_TEST_NO_FORK
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define CG_TEST_NO_FORK
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
