#include "gloo.h"
#include <gloo/config.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *cg_gloo_version(void) {
    return TEXT(GLOO_VERSION_MAJOR) "." TEXT(GLOO_VERSION_MINOR) "." TEXT(GLOO_VERSION_PATCH);
}
